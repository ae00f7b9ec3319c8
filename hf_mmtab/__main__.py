"""`python -m hf_mmtab COMMAND …`: what the scripts do, without the checkout."""

import sys
from importlib import import_module

from hf_mmtab.commands.console import run

# command → what it does; each is a module of hf_mmtab.commands with `main(arguments)`.
COMMANDS = {
    "pretrain": "pretrain TabBERT on a table: RECIPE.yaml [--field value ...]",
    "finetune": "train and evaluate a classifier: RECIPE.yaml [--field value ...]",
    "eval_checkpoint": "evaluate a saved model: CHECKPOINT DATA --split S --out DIR",
    "predict": "classify new rows: CHECKPOINT INPUT OUT",
    "embed": "write TabBERT's embeddings of rows: CHECKPOINT INPUT OUT.parquet",
    "convert_checkpoint": "bring a checkpoint of an original over, or back: KIND SRC DST [--reverse]",
    "push_to_hub": "upload a run's model, processor, card and report: CHECKPOINT REPO_ID [--public]",
}


def main() -> None:
    """Run one command; `accelerate launch -m hf_mmtab COMMAND …` runs it on several processes."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        lines = [f"  {name:16} {text}" for name, text in COMMANDS.items()]
        given = (
            f"unknown command {sys.argv[1]!r}\n"
            if len(sys.argv) > 1 and sys.argv[1] not in ("-h", "--help")
            else ""
        )
        sys.stderr.write(given + "usage: python -m hf_mmtab COMMAND ...\n" + "\n".join(lines) + "\n")
        raise SystemExit(2 if given or len(sys.argv) < 2 else 0)
    run(import_module(f"hf_mmtab.commands.{sys.argv[1]}").main, sys.argv[2:])


if __name__ == "__main__":
    main()
