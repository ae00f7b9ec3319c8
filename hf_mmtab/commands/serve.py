"""`serve FOLDER`: answer over HTTP with a model that `export` wrote. Needs neither torch nor transformers.

`POST /predict` takes {"input": X} or {"inputs": [X, ...]}; X is {"image": BASE64 or null, "text": ...}, or the rows of
one entity as a list of objects, the oldest first. `GET /health` says that the service is there.
"""

import argparse
import importlib.util
import socket
import sys
from collections.abc import Sequence
from dataclasses import fields

from ..serving import Predictor
from .flags import whole_number

NEEDED = ("fastapi", "uvicorn", "onnxruntime")


def main(arguments: Sequence[str]) -> None:
    """Serve as the command line says; of an error in the folder the message alone, and exit status 1."""
    if absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        sys.stderr.write(f'Expected {", ".join(absent)}. Install: pip install "hf-mmtab[serve]"\n')
        raise SystemExit(1)
    import uvicorn

    from ..serving.app import Limits, make_app

    parser = argparse.ArgumentParser(prog="hf-mmtab serve", description=__doc__)
    parser.add_argument("folder", help="written by `hf-mmtab export`")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=whole_number(1, 65535), default=8000)
    parser.add_argument(
        "--threads", type=whole_number(0), default=0, help="of onnxruntime; default: as many as there are cores"
    )
    for one in fields(Limits):
        parser.add_argument(
            f"--{one.name}", type=whole_number(1), default=one.default, help=f"default: {one.default:,}"
        )
    options = vars(parser.parse_args(arguments))
    limits = Limits(**{one.name: options[one.name] for one in fields(Limits)})
    try:
        predictor = Predictor(options["folder"], options["threads"])
        _check_free(options["host"], options["port"])
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(1) from error
    uvicorn.run(make_app(predictor, limits), host=options["host"], port=options["port"])


def _check_free(host: str, port: int) -> None:
    """Raise an OSError if nothing can listen there; uvicorn would end without a sentence."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise OSError(
            f"Expected a free port at {host}:{port}, found {error.strerror or error}. Choose another: --port, --host."
        ) from error
