"""Scripts on two processes of this machine, one after another: run with their command lines as JSON.

The ranks are forks of one process that has imported the package and used nothing of it: a launcher would import all
in each. What launchers do is for the tests that start `accelerate launch`.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_on_two_processes(*commands: tuple) -> str:
    """Run scripts of the checkout, each with its arguments, on the CPU; return what they wrote to standard output."""
    asked = json.dumps([[str(ROOT / script), *map(str, arguments)] for script, *arguments in commands])
    done = subprocess.run(
        [sys.executable, __file__, asked],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def main() -> None:
    """Fork the ranks; where one fails, the other is ended and the exit status is 1."""
    gc.disable()  # what the imports make stays
    from hf_mmtab.commands import finetune, pretrain  # noqa: F401

    gc.freeze()
    gc.enable()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = set()
    for rank in ("0", "1"):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
            for command in json.loads(sys.argv[1]):
                sys.argv = command
                runpy.run_path(command[0], run_name="__main__")
            return
        ranks.add(child)
    while ranks:
        child, status = os.wait()
        ranks.remove(child)
        if status:
            for other in ranks:
                os.kill(other, signal.SIGKILL)
            raise SystemExit(1)


if __name__ == "__main__":
    main()
