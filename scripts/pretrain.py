"""Pretrain TabBERT on a table of events as a recipe says.

python scripts/pretrain.py scripts/recipes/simulated_cards_pretrain.yaml
python scripts/pretrain.py RECIPE.yaml --learning_rate 1e-4 --whole_row_masking 0.1
accelerate launch scripts/pretrain.py RECIPE.yaml
"""

import sys

from hf_mmtab.commands.console import run
from hf_mmtab.commands.pretrain import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
