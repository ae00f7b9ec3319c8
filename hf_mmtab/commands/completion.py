"""`completion SHELL`: print the script by which a shell completes commands, recipes and keys (extra `completion`).

bash: `hf-mmtab completion bash > ~/.local/share/bash-completion/completions/hf-mmtab`; zsh: into a file `_hf-mmtab` in
a folder of `fpath`. The next shell reads it.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from transformers import TrainingArguments

from ..__main__ import COMMANDS
from ..extras import import_extra
from ..recipes import EVERYDAY_KEYS, field_types, shipped_recipes
from ..tasks import TASKS
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
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers()
    for name, text in COMMANDS.items():
        if name in RECIPES:
            own = commands.add_parser(name, help=text)
            recipes = [one for one in sorted(shipped_recipes()) if one.endswith("pretrain") == (name == "pretrain")]
            own.add_argument("recipe", choices=recipes)
            for key, values in _keys(RECIPES[name]).items():
                own.add_argument(f"--{key}", choices=values)
        elif name in PARSERS:
            commands.add_parser(name, help=text, parents=[PARSERS[name]()], conflict_handler="resolve")
        else:  # `serve` makes its parser of what its extra installs
            commands.add_parser(name, help=text)
    return parser


def _keys(recipes: Iterable[Any]) -> dict[str, list[str] | None]:
    """Return the keys of recipes, of transformers' own those that a recipe usually has, with the values they take."""
    found: dict[str, list[Any]] = defaultdict(list)
    for key, annotation in (pair for one in recipes for kind in one.types for pair in field_types(kind).items()):
        found[key].append(list(TASKS) if key == "task" else _values(annotation))
    rare = set(field_types(TrainingArguments)) - EVERYDAY_KEYS
    return {
        key: sorted(set().union(*values)) if all(values) else None
        for key, values in sorted(found.items())
        if key not in rare
    }


def _values(annotation: Any) -> list[str]:
    """Return the words that a value may be; none: any value."""
    if annotation is bool:
        return ["true", "false"]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    parts = [part for part in get_args(annotation) if part is not type(None)]
    # a text beside an enum is one of its values
    enums = [part for part in parts if isinstance(part, type) and issubclass(part, Enum)]
    found = [_values(part) for part in enums or parts]
    return [value for values in found for value in values] if all(found) else []
