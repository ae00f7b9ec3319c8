"""Train, evaluate and save a classifier as a recipe says.

python scripts/finetune.py scripts/recipes/openclipart.yaml
python scripts/finetune.py RECIPE.yaml --learning_rate 1e-4 --seeds 1 2 3 --compare bert img
accelerate launch scripts/finetune.py RECIPE.yaml
"""

import sys

from hf_mmtab.commands.console import run
from hf_mmtab.commands.finetune import main

if __name__ == "__main__":
    run(main, sys.argv[1:])
