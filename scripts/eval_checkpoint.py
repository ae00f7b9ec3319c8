"""Evaluate a saved model on one split, with modality ablation and a report.

python scripts/eval_checkpoint.py CHECKPOINT DATA --split test --out DIR
"""

import sys

from hf_mmtab.commands.console import run
from hf_mmtab.commands.eval_checkpoint import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
