"""Recipes: one flat YAML file of dataclass fields, every one of which the command line may override.

A recipe's keys are the fields of the dataclasses that a command takes (`DataArguments`,
`MMBTModelArguments`, `MMTabTrainingArguments`, …). Nothing else is accepted, so a misspelt key is an error.
"""

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from .models.tabbert.strict_yaml import read_mapping

_RECIPES_OF_CHECKOUT = Path(__file__).resolve().parents[1] / "scripts" / "recipes"

_LONE_PERCENT = re.compile(r"(?<!%)%(?![%(])")


def recipe_folders() -> list[Path]:
    """Return the folders in which a recipe is looked up by its bare name: the wheel's, then the checkout's."""
    packaged = Path(str(resources.files("hf_mmtab") / "recipes"))
    return [folder for folder in (packaged, _RECIPES_OF_CHECKOUT) if folder.is_dir()]


def find_recipe(name: str | Path) -> Path:
    """Return the path of a recipe given as a path, or as the bare name of one that ships with the package.

    Raises:
        FileNotFoundError: naming the recipes that do exist.
    """
    path = Path(name)
    if path.is_file():
        return path
    known: dict[str, Path] = {}
    for folder in recipe_folders():
        for file in sorted(folder.glob("*.yaml")):
            known.setdefault(file.stem, file)
    if path.stem in known and path.parent in (Path(), Path("scripts/recipes")):
        return known[path.stem]
    raise FileNotFoundError(
        f"Expected a recipe file or the name of a shipped recipe ({', '.join(sorted(known))}), found {str(name)!r}. "
        "Write the path of your YAML file, or one of these names."
    )


class _RecipeParser(HfArgumentParser):
    def __init__(self, dataclass_types: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(list(dataclass_types), allow_abbrev=False, **kwargs)

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Take a percent sign in a help text for what it says; argparse reads it as a format."""
        if isinstance(options.get("help"), str):
            options["help"] = _LONE_PERCENT.sub("%%", options["help"])
        if options.get("type") is string_to_bool:  # of one that may also be unset: `--key` alone means true
            options |= {"nargs": "?", "const": True}
        return super().add_argument(*names, **options)

    def error(self, message: str) -> Any:
        raise ValueError(f"{message}. `--help` lists every key of a recipe.")


def _tokens(key: str, value: Any) -> list[str]:
    """Say one recipe entry as the command line would, so that both go through the same type checks."""
    if value is None or value == []:
        return []
    if isinstance(value, bool):
        return [f"--{key}", "true" if value else "false"]
    if isinstance(value, dict):
        return [f"--{key}", json.dumps(value)]
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    return [f"--{key}={value}"]


def _without_unset(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take `--key null` and `--key=null` out of the command line.

    Returns:
        The rest, and the keys that are unset.
    """
    rest: list[str] = []
    unset = []
    place = 0
    while place < len(overrides):
        token, following = overrides[place], [*overrides[place + 1 : place + 3], "--", "--"]
        key, equals, value = token.removeprefix("--").partition("=")
        length = 0
        if token.startswith("--"):
            if equals:
                length = 1 if value == "null" else 0
            elif following[0] == "null" and following[1].startswith("--"):
                length = 2
        if length:
            unset.append(key.replace("-", "_"))
        else:
            rest.append(token)
        place += max(1, length)
    return rest, unset


def _mappings_as_json(overrides: Sequence[str]) -> list[str]:
    """Say mappings on the command line, `{part: 1 epoch}` as YAML or JSON, as the parser takes them.

    Raises:
        ValueError: if what stands in braces is no mapping; names the key and how to write it.
    """
    said = []
    for place, token in enumerate(overrides):
        key, equals, value = token.partition("=") if token.startswith("--") else ("", "", token)
        if not (value.startswith("{") and value.endswith("}")):
            said.append(token)
            continue
        named = key or next(
            (one for one in reversed(overrides[:place]) if one.startswith("--")), "the command line"
        )
        try:
            mapping = yaml.safe_load(value)
            if unspaced := [name for name, one in mapping.items() if one is None and ":" in str(name)]:
                raise TypeError(f"no blank behind the colon of {unspaced[0]!r}")
            text = json.dumps(mapping)
        except (yaml.YAMLError, TypeError) as error:
            raise ValueError(
                f"Expected a mapping such as '{{text_encoder: 1 epoch}}' after {named}, found {value!r} "
                f"({' '.join(str(error).split())}). Write `{{key: value, key: value}}` in quotes."
            ) from error
        said.append(key + equals + text)
    return said


def _without_no(token: str, known: set[str]) -> str:
    """Write `--no_key` as `--key=false`."""
    key = token.replace("-", "_").removeprefix("__no_")
    return f"--{key}=false" if token.startswith(("--no_", "--no-")) and key in known else token


def _check_keys(keys: Sequence[str], known: set[str], where: str) -> None:
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), n=3)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "`--help` lists every key."
            raise ValueError(f"Expected a known recipe key, found {key!r} in {where}. {hint}")


def read_recipe(name: str | Path) -> dict[str, Any]:
    """Read a recipe file into a dict.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a YAML mapping, or has a key twice; names file, line and column.
    """
    return read_mapping(find_recipe(name), "a recipe")


def parse_recipe(
    dataclass_types: Sequence[type], arguments: Sequence[str], command: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Build the dataclasses of a command from `RECIPE.yaml [--field value …]`.

    Args:
        dataclass_types: dataclasses whose fields are the keys; a key belongs to one of them.
        arguments: the command line behind the command's name; the recipe first, overrides after it.
            `--key null` takes the key out of the recipe: its default holds.
        command: name for the help text, such as `finetune`.

    Returns:
        The dataclasses, and the resolved recipe (the file's entries with the overrides in place), for the run's record.

    Raises:
        FileNotFoundError: no such recipe.
        ValueError: misspelt key (with the nearest known ones), or a value of the wrong type.
    """
    parser = _RecipeParser(dataclass_types, prog=f"hf_mmtab {command}")
    parser.usage = f"hf_mmtab {command} RECIPE.yaml [--field value ...]"
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        raise SystemExit(0 if arguments else 2)
    recipe, overrides = str(arguments[0]), list(arguments[1:])
    if recipe.startswith("--"):
        raise ValueError(f"Expected the recipe first (`{parser.usage}`), found {recipe!r}.")
    values = read_recipe(recipe)
    known = {field.name for dtype in dataclass_types for field in dataclasses.fields(dtype) if field.init}
    _check_keys(list(values), known, f"recipe {recipe!r}")
    overrides = [_without_no(token, known) for token in overrides]
    given = [token[2:].split("=")[0].replace("-", "_") for token in overrides if token.startswith("--")]
    _check_keys(given, known, "the command line")
    overrides, unset = _without_unset(overrides)
    values = {key: value for key, value in values.items() if key not in unset}
    given = [key for key in given if key not in unset]
    # Argparse keeps the last value of a key, so an override replaces the recipe's entry, lists included.
    tokens = [token for key, value in values.items() for token in _tokens(key, value)]
    overrides = _mappings_as_json(overrides)
    dataclass_values = parser.parse_args_into_dataclasses(args=tokens + overrides, look_for_args_file=False)
    for key in given:
        owner = next(
            value for value in dataclass_values if key in {f.name for f in dataclasses.fields(value)}
        )
        value = getattr(owner, key)
        values[key] = value.value if isinstance(value, Enum) else value  # as a file would say it
    return dataclass_values, values


def write_recipe(path: Path, values: dict[str, Any]) -> None:
    """Write resolved recipe values, in their order, so that `parse_recipe` reads the same run again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
