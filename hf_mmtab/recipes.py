"""Recipes: one flat YAML file of dataclass fields, every one of which the command line may override.

A recipe's keys are the fields of the dataclasses that a command takes (`ImageTextDataArguments`, `MMBTModelArguments`,
`MMTabTrainingArguments`, …). Nothing else is accepted, so a misspelt key is an error.
"""

import copy
import dataclasses
import difflib
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import TrainingArguments

from .files import write_whole
from .models.tabbert.processing.strict_yaml import read_mapping
from .typed_values import typed_value

# Keys of a recipe that name what a run reads; of others a text may be called like a folder and mean something else.
READ_KEYS = (
    "data", "rows", "plan", "plan_edits", "pretrained", "text_model", "image_model", "glove_path", "deepspeed",
    "fsdp_config", "accelerator_config", "resume_from_checkpoint", "orderings",
)  # fmt: skip
_RECIPES_OF_CHECKOUT = Path(__file__).resolve().parents[1] / "scripts" / "recipes"


def recipe_folders() -> list[Path]:
    """Return the folders in which a recipe is looked up by its bare name: the wheel's, then the checkout's."""
    packaged = Path(str(resources.files("hf_mmtab") / "recipes"))
    return [folder for folder in (packaged, _RECIPES_OF_CHECKOUT) if folder.is_dir()]


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that ship with the package: bare name → file."""
    known: dict[str, Path] = {}
    for folder in recipe_folders():
        for file in sorted(folder.glob("*.yaml")):
            known.setdefault(file.stem, file)
    return known


def find_recipe(name: str | Path) -> Path:
    """Return the path of a recipe given as a path, or as the bare name of one that ships with the package.

    Raises:
        FileNotFoundError: naming the recipes that do exist.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = shipped_recipes()
    if path.stem in known and path.parent in (Path(), Path("scripts/recipes")):
        return known[path.stem]
    near = difflib.get_close_matches(path.stem, known, n=1)
    raise FileNotFoundError(
        f"Expected a recipe file or the name of a shipped recipe ({', '.join(sorted(known))}), found {str(name)!r}. "
        + (f"Did you mean {near[0]}?" if near else "Write the path of your YAML file, or one of these names.")
    )


def read_recipe(name: str | Path) -> dict[str, Any]:
    """Read a recipe file into a dict.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a YAML mapping, or has a key twice; names file, line and column.
    """
    return read_mapping(find_recipe(name), "a recipe")


def write_recipe(path: Path, values: Mapping[str, Any]) -> None:
    """Write resolved recipe values, in their order, so that `parse_recipe` reads the same run again."""
    write_whole(path, yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


# The least value of training arguments: transformers takes others without a word, and its parser no bounds.
LEAST = {
    "gradient_accumulation_steps": 1, "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1,
    "eval_accumulation_steps": 1, "save_total_limit": 1, "ddp_timeout": 1, "logging_steps": 0, "weight_decay": 0,
    "max_grad_norm": 0, "eval_delay": 0, "learning_rate": 0, "adam_epsilon": 0, "seed": 0, "data_seed": 0,
    "early_stopping_patience": 1,
}  # fmt: skip
MOST = {"seed": 2**32 - 1, "data_seed": 2**32 - 1}
ABOVE_ZERO = ("max_steps", "save_steps", "eval_steps")  # 0 is another value, or never, to transformers
# Keys of names that choose nothing when there are none: what an empty list might mean is not what it does.
_NEVER_EMPTY = {
    "entity_columns": "stands for the plan's own (a plan without `entity` makes the table one history)",
    "label_columns": "stands for the plan's own",
    "entities": "keeps none of them",
}
# Of transformers' arguments, those that a recipe usually has.
EVERYDAY_KEYS = frozenset([
    "output_dir", "num_train_epochs", "max_steps", "per_device_train_batch_size", "per_device_eval_batch_size",
    "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "gradient_accumulation_steps", "seed", "bf16",
    "eval_strategy", "save_strategy", "save_total_limit", "load_best_model_at_end", "metric_for_best_model",
    "logging_steps", "report_to", "push_to_hub",
])  # fmt: skip


def parse_recipe(
    dataclass_types: Sequence[type], arguments: Sequence[str], command: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Build the dataclasses of a command from `RECIPE.yaml [--key value …]`.

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
    usage = f"hf-mmtab {command} RECIPE.yaml [--key value ...]"
    values = first_recipe(arguments, dataclass_types, usage, "--help-all" in arguments)
    merged = merged_values(values, arguments, dataclass_types)
    return build(dataclass_types, merged), merged


def first_recipe(
    arguments: Sequence[str], dataclass_types: Sequence[type], usage: str, all_keys: bool = True
) -> dict[str, Any]:
    """Read the recipe with which a command line begins; for `--help`, or without one, show its keys and end."""
    if not arguments or {"-h", "--help", "--help-all"} & set(arguments):
        sys.stdout.write(help_text(dataclass_types, usage, all_keys))
        raise SystemExit(0 if arguments else 2)
    if str(arguments[0]).startswith("--"):
        raise ValueError(f"Expected the recipe first (`{usage}`), found {str(arguments[0])!r}.")
    return read_recipe(arguments[0])


def merged_values(
    values: Mapping[str, Any], arguments: Sequence[str], dataclass_types: Sequence[type]
) -> dict[str, Any]:
    """Return the values of a recipe with those of the command line behind its name in place; `null` takes one out."""
    known = {name for dtype in dataclass_types for name in field_types(dtype)}
    check_keys(values, known, f"recipe {str(arguments[0])!r}")
    overrides = read_overrides(arguments[1:], dataclass_types)
    merged = {**values, **overrides}
    return {key: value for key, value in merged.items() if not (value is None and key in overrides)}


def build(dataclass_types: Sequence[type], values: Mapping[str, Any], of_finished: bool = False) -> tuple[Any, ...]:
    """Build the dataclasses of a recipe from its values; an entry without a value keeps the default.

    They hold copies of the values: what a run changes in its own arguments is not changed in another run's.

    Args:
        dataclass_types: dataclasses whose fields are the keys.
        values: key → value.
        of_finished: whether a run followed the recipe; what no recipe should say any more is taken as it was then.

    Raises:
        ValueError: a value of the wrong type, or a required key that is absent.
    """
    built = []
    for dtype in dataclass_types:
        types = field_types(dtype)
        given = {
            name: typed_value(_at_home(name, copy.deepcopy(values[name])), annotation, name)
            for name, annotation in types.items()
            if values.get(name) is not None
        }
        needed = [f.name for f in dataclasses.fields(dtype) if f.init and _is_required(f)]
        if absent := [name for name in needed if name not in given]:
            raise ValueError(f"Expected the key {' and '.join(absent)} in the recipe, found none. Add it.")
        for field in dataclasses.fields(dtype):
            if field.name in given:
                _check_range(field, given[field.name])
                _check_not_empty(field, given[field.name])
                if not of_finished:
                    _check_different(field.name, given[field.name])
        try:
            built.append(dtype(**given))
        except StrictDataclassError as error:
            raise ValueError(str(error.__cause__ or error)) from error
        except (LookupError, TypeError) as error:  # of transformers, whose arguments it does not look at first
            raise ValueError(
                f"Expected values that {dtype.__name__} takes, found {type(error).__name__}: {error}. Correct the "
                "recipe."
            ) from error
    return tuple(built)


def _at_home(name: str, value: Any) -> Any:
    """Return the value of a key; paths that begin at `~` lead to the home folder."""
    if name not in READ_KEYS:
        return value
    if isinstance(value, dict):
        return {key: _at_home(name, one) for key, one in value.items()}
    if isinstance(value, list):
        return [_at_home(name, one) for one in value]
    is_path = isinstance(value, str) and value.partition("/")[0] == "~"
    return os.path.expanduser(value) if is_path else value


def _check_not_empty(field: dataclasses.Field, value: Any) -> None:
    empty = value == "" or (isinstance(value, list) and "" in value and field.name != "missing")
    if empty and field.default != "":
        or_not = "" if _is_required(field) else f", or leave the key out (`--{field.name} null`)"
        raise ValueError(f"Expected a value for {field.name}, found an empty text. Write one{or_not}.")


def _check_different(name: str, value: Any) -> None:
    """Raise a ValueError for a list of names that has one twice, or none where that says nothing."""
    if name == "orderings":
        value = list(value.values())
    if value == [] and name in _NEVER_EMPTY:
        raise ValueError(
            f"Expected names in {name}, found an empty list, which {_NEVER_EMPTY[name]}. Leave the key out "
            f"(`--{name} null`)."
        )
    if not isinstance(value, list) or not (name == "seeds" or all(isinstance(one, str) for one in value)):
        return
    if repeated := [str(one) for one, count in Counter(value).items() if count > 1]:
        raise ValueError(
            f"Expected different values in {name}, found {', '.join(repeated)} more than once. Name it once."
        )


def _check_range(field: dataclasses.Field, value: Any) -> None:
    if isinstance(value, list):
        for one in value:
            _check_range(field, one)
        return
    if isinstance(value, str | dict):  # a word such as "auto" in place of a number
        return
    above, most = field.metadata.get("above"), field.metadata.get("most", MOST.get(field.name))
    least = field.metadata.get("least", LEAST.get(field.name))
    too_low = (least is not None and value < least) or (above is not None and value <= above)
    if too_low or (most is not None and value > most):
        bounds = f"above {above}" if above is not None else f"at least {least}"
        bounds += f" and at most {most}" if most is not None else ""
        raise ValueError(f"Expected {field.name} to be {bounds}, found {value}. Correct it.")
    if field.name in ABOVE_ZERO and value <= 0 and value != field.default:
        raise ValueError(
            f"Expected {field.name} above 0, found {value}. Correct it, or leave it out (`--{field.name} null`)."
        )


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@cache
def field_types(dtype: type) -> dict[str, Any]:
    """Return name → annotation of the fields that a dataclass takes."""
    hints = get_type_hints(dtype)
    return {field.name: hints[field.name] for field in dataclasses.fields(dtype) if field.init}


def check_keys(keys: Any, known: set[str], where: str) -> None:
    """Raise a ValueError for a key that is not known; names the nearest known ones."""
    for key in keys:
        if key not in known:
            longer = sorted((name for name in known if key in name and len(key) > 2), key=len)
            near = list(dict.fromkeys([*longer, *difflib.get_close_matches(key, sorted(known), n=3)]))[:3]
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "`--help` lists every key."
            raise ValueError(f"Expected a known recipe key, found {key!r} in {where}. {hint}")


def read_overrides(tokens: Sequence[str], dataclass_types: Sequence[type]) -> dict[str, Any]:
    """Read `--key value`, `--key=value`, `--switch`, `--no_switch` and `--list a b c`.

    Returns:
        Key → typed value; None for `--key null`.

    Raises:
        ValueError: unknown key, value of the wrong type, several values for a key that takes one.
    """
    types = {name: kind for dtype in dataclass_types for name, kind in field_types(dtype).items()}
    groups: list[tuple[str, list[str]]] = []
    for token in tokens:
        if token.startswith("--"):
            key, equals, value = token[2:].partition("=")
            groups.append((key.replace("-", "_"), [value] if equals else []))
        elif groups:
            groups[-1][1].append(token)
        else:
            raise ValueError(f"Expected `--key value` behind the recipe, found {token!r}.")
    overrides: dict[str, Any] = {}
    for key, texts in groups:
        if not texts and key not in types and key.removeprefix("no_") in types:
            key, texts = key.removeprefix("no_"), ["false"]
        check_keys([key], set(types), "the command line")
        if texts == ["null"]:
            overrides[key] = None
            continue
        given: Any = texts or ["true"]
        overrides[key] = typed_value(given[0] if len(given) == 1 else given, types[key], f"--{key}")
    return overrides


def help_text(dataclass_types: Sequence[type], usage: str, all_keys: bool = True) -> str:
    """Return the keys of a command with their help, grouped by dataclass; transformers' own come last.

    Args:
        dataclass_types: dataclasses whose fields are the keys.
        usage: the first line.
        all_keys: False: of transformers' own only those that every run needs.
    """
    inherited = {field.name for field in dataclasses.fields(TrainingArguments)} - {"output_dir"}
    groups: dict[str, list[dataclasses.Field]] = {}
    for dtype in dataclass_types:
        title = (dtype.__doc__ or dtype.__name__).strip().splitlines()[0]
        for field in dataclasses.fields(dtype):
            is_inherited = issubclass(dtype, TrainingArguments) and field.name in inherited
            if field.init and (all_keys or not is_inherited or field.name in EVERYDAY_KEYS):
                groups.setdefault("TrainingArguments of transformers." if is_inherited else title, []).append(field)
    lines = [f"usage: {usage}", "", "Keys of the recipe, and of the command line as --key value:"]
    for title, fields in sorted(groups.items(), key=lambda item: item[0].startswith("TrainingArguments of")):
        lines += ["", title]
        for field in fields:
            words = " ".join(f"{field.metadata.get('help', '')}{_default(field)}".split())
            lines += [
                f"  --{field.name}",
                *textwrap.wrap(words, 110, initial_indent="      ", subsequent_indent="      "),
            ]
    if not all_keys:
        lines += ["", f"`--help-all` also lists the other {len(inherited - EVERYDAY_KEYS)} keys of transformers."]
    return "\n".join(lines) + "\n"


def _default(field: dataclasses.Field) -> str:
    default = field.default.value if isinstance(field.default, Enum) else field.default
    return "" if default is dataclasses.MISSING or default is None else f" (default: {default})"
