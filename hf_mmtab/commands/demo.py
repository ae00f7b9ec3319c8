"""`demo CHECKPOINT`: a page on which a person tries a model, and sees why it says so (extra `demo`).

The folder works as a Space on the Hub with an `app.py` of two lines:
`from hf_mmtab.demo import make_demo` and `make_demo("NAME/MODEL").launch()`.
"""

import argparse
from collections.abc import Sequence

from ..tasks.checkpoints import is_table_checkpoint
from .console import start_logging
from .damaged_files import damage_named


def main(arguments: Sequence[str]) -> None:
    """Show the page until it is interrupted."""
    start_logging()
    options = _parser().parse_args(arguments)
    from ..demo import make_demo

    with damage_named(options.checkpoint):
        page = make_demo(options.checkpoint, is_table_checkpoint(options.checkpoint), options.examples)
    page.launch(server_name=options.host, server_port=options.port, share=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf-mmtab demo", description=__doc__)
    parser.add_argument("checkpoint", help="folder or Hub name of a fine-tuned model with its processor")
    parser.add_argument("--examples", help="of tables: file with histories to choose from, as training read them")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=int, default=7860)
    return parser
