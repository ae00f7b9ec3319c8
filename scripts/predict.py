"""Classify new rows with a saved model; labels are not needed.

python scripts/predict.py CHECKPOINT INPUT.jsonl OUT.parquet
"""

import sys

from hf_mmtab.commands.console import run
from hf_mmtab.commands.predict import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
