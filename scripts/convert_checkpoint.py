"""Bring a checkpoint of an original over to ours, or back; nothing in it is run.

python scripts/convert_checkpoint.py KIND SRC DST [--reverse]
"""

import sys

from hf_mmtab.commands.console import run
from hf_mmtab.commands.convert_checkpoint import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
