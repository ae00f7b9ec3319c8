"""`completion SHELL`: print the script by which a shell completes commands, recipes and keys (extra `completion`).

bash: `hf-mmtab completion bash > ~/.local/share/bash-completion/completions/hf-mmtab`; zsh: into a file `_hf-mmtab` in
a folder of `fpath`. The next shell reads it.
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from ..__main__ import COMMANDS
from ..extras import import_extra
from ..recipes import EVERYDAY_KEYS, field_types, shipped_recipes
from ..training import MMTabTrainingArguments
from .console import say
from .flags import PARSERS, parse
from .runs.recipe import HeadRecipe, ImageTextRecipe, PretrainingRecipe

RECIPES: dict[str, tuple[Any, ...]] = {"pretrain": (PretrainingRecipe,), "finetune": (ImageTextRecipe, HeadRecipe)}


def main(arguments: Sequence[str]) -> None:
    """Print the script of the shell that the command line names."""
    options = parse("completion", arguments)
    shtab = import_extra("shtab", "completion", "completion")
    say(shtab.complete(whole_parser(), shell=options.shell))


def whole_parser() -> argparse.ArgumentParser:
    """Return a parser of all commands with their options; of recipes the usual keys."""
    parser = argparse.ArgumentParser(prog="hf-mmtab")
    commands = parser.add_subparsers()
    for name, text in COMMANDS.items():
        if name in RECIPES:
            own = commands.add_parser(name, help=text)
            own.add_argument("recipe", choices=sorted(shipped_recipes()))
            for key in _keys(RECIPES[name]):
                own.add_argument(f"--{key}")
        elif name in PARSERS:
            commands.add_parser(name, help=text, parents=[PARSERS[name]()], conflict_handler="resolve")
        else:  # `serve` makes its parser of what its extra installs
            commands.add_parser(name, help=text)
    return parser


def _keys(recipes: Iterable[Any]) -> list[str]:
    """Return the keys of recipes, of transformers' own those that a recipe usually has."""
    keys = {key for recipe in recipes for kind in recipe.types for key in field_types(kind)}
    return sorted(keys - set(field_types(MMTabTrainingArguments)) | EVERYDAY_KEYS)
