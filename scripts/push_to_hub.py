"""Upload a run's model, processor, card, recipe, results and report to the Hub.

python scripts/push_to_hub.py CHECKPOINT REPO_ID --private
"""

import sys

from hf_mmtab.commands.console import run
from hf_mmtab.commands.push_to_hub import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
