"""Export a saved model to ONNX with its processor, checked against torch.

python scripts/export.py CHECKPOINT OUT
"""

import sys

from hf_mmtab.commands.console import run
from hf_mmtab.commands.export import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
