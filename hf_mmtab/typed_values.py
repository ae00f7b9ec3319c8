"""Recipe keys: dataclass fields with a help text, and values of YAML or the command line as the types they ask for."""

import dataclasses
import types
from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from .models.tabbert.processing.strict_yaml import load_strict

LARGEST = 2**63
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a mapping",
    list: "a list",
}
_LISTS = (list, tuple, Sequence)
_NOTHING = object()  # the value is not of the type


def key(default: Any, help: str, of: Sequence[str] = (), **limits: float) -> Any:
    """Return a dataclass field that is a recipe key.

    Args:
        default: `dataclasses.MISSING` for a key that every recipe needs.
        help: for `--help`.
        of: architectures that read it; none: all do.
        limits: `least` and `most`, both included; `above`, which is not. Of a list, of each of its values.
    """
    metadata = {"help": help, **limits, **({"of": of} if of else {})}  # transformers' parser takes it for its own
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def typed_value(value: Any, annotation: Any, name: str) -> Any:
    """Return a value as one of the types of an annotation.

    Texts become numbers, switches, mappings and lists (`{a: 1}`, `[a, b]`) where the annotation asks for them: YAML
    reads `5e-5` as text, and the command line knows nothing but texts. A single value stands for a list of one.

    Args:
        value: plain, as YAML gives it.
        annotation: of a dataclass field: builtin types, `Literal`, enums, `list[...]`, `dict`, and unions of these.
        name: of the key, for messages; `--key` on the command line.

    Raises:
        ValueError: naming the key, what it takes, and the value.
    """
    options = _options(annotation)
    for opening, kinds in (("{", (dict,)), ("[", _LISTS)):
        is_written = isinstance(value, str) and value.lstrip().startswith(opening)
        if is_written and any(_kind(option) in kinds for option in options):
            value = _written(value, name, *kinds[:1])
    for option in options:
        converted = _convert(value, option, name)
        if type(converted) in (int, float) and not abs(converted) < LARGEST:  # nan is not below anything
            raise ValueError(f"Expected a finite number below 2^63 for {name}, found {value!r}. Correct it.")
        if converted is not _NOTHING:
            return converted
    several = f", found {len(value)} values: {value!r}" if isinstance(value, list) else f", found {value!r}"
    if _kind(options[0]) is dict and isinstance(value, str):
        raise ValueError(
            f"Expected a mapping for {name.removeprefix('--')}{several}. Write `--{name.removeprefix('--')} "
            "'{key: value, key: value}'`."
        )
    wanted = dict.fromkeys(_describe(option) for option in options if option is not type(None))
    raise ValueError(f"Expected {' or '.join(wanted)} for {name}{several}. Correct it.")


def _options(annotation: Any) -> list[Any]:
    """Return the types of a union, text last: every text is a text."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return sorted(get_args(annotation) if is_union else [annotation], key=lambda option: option is str)


def _kind(option: Any) -> Any:
    return get_origin(option) or option


def _convert(value: Any, option: Any, name: str) -> Any:
    kind = _kind(option)
    if option is Any:
        return value
    if kind is Literal:
        return value if value in get_args(option) and not isinstance(value, list | dict) else _NOTHING
    if kind in _LISTS:
        element = (get_args(option) or (Any,))[0]
        items = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict):
            return _NOTHING
        return [typed_value(item, element, name) for item in items]
    if kind is dict:
        return value if isinstance(value, dict) else _NOTHING
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value if value in [member.value for member in kind] else _NOTHING
    return _plain(value, kind)


def _plain(value: Any, kind: Any) -> Any:
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is str and type(value) in (int, float):
        return str(value)
    if isinstance(value, str):
        if kind is bool:
            return _SWITCHES.get(value.strip().lower(), _NOTHING)
        if kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                return _NOTHING
    return _NOTHING


def _written(text: str, name: str, kind: type) -> Any:
    """Return the mapping or list that a text of the command line writes as YAML."""
    what, form = ("mapping", "{key: value, key: value}") if kind is dict else ("list", "[value, value]")
    try:
        # elements of a list are read as they are written: 007 and 1.10 may be names
        values = load_strict(text) if kind is dict else load_strict(text, yaml.BaseLoader)
        pairs = values.items() if isinstance(values, dict) else ()
        if unspaced := [one for one, held in pairs if held is None and ":" in str(one)]:
            raise yaml.YAMLError(f"no blank behind the colon of {unspaced[0]!r}")
        if type(values) is not kind:
            raise yaml.YAMLError(f"no {what}")
    except yaml.YAMLError as error:
        raise ValueError(
            f"Expected a {what} such as '{form}' after {name}, found {text!r} ({' '.join(str(error).split())}). Write "
            f"`{form}` in quotes."
        ) from error
    return values


def _describe(option: Any) -> str:
    kind = _kind(option)
    if kind is Literal:
        return f"one of {', '.join(map(str, get_args(option)))}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(member.value) for member in kind)}"
    element = get_args(option)
    if kind is list and element:
        return f"a list of {_NAMES.get(element[0], 'values').removeprefix('a ')}s"
    return _NAMES.get(kind, str(kind))
