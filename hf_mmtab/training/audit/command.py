"""Compare two saved checkpoints part by part, from the command line.

`python -m hf_mmtab.training.audit CHECKPOINT_A CHECKPOINT_B`
"""

import argparse
import sys

from .compare import compare_checkpoints


def main(arguments: list[str] | None = None) -> None:
    """Write what moved between two checkpoints, and by how much, to the standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m hf_mmtab.training.audit",
        description="Compare two saved checkpoints part by part: what moved, and by how much.",
    )
    parser.add_argument("checkpoint_a", help="folder or file of the earlier weights")
    parser.add_argument("checkpoint_b", help="folder or file of the later weights")
    depth = "without a saved freeze schedule: name components that make a part"
    parser.add_argument("--depth", type=int, default=2, help=depth)
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(compare_checkpoints(given.checkpoint_a, given.checkpoint_b, given.depth) + "\n")
    except (FileNotFoundError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
