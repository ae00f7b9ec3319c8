"""YAML that people write: what is broken or said twice is an error with its line, and names keep their digits."""

import re
from pathlib import Path
from typing import Any

import yaml


class _StrictLoader(yaml.SafeLoader):
    """Takes no key twice: of two values the first would be lost. Dates, 007 and 1_000 stay text: they may be names, and
    so may all keys: class 1, column yes.
    """

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in ("int", "timestamp")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key!r} a second time", key_node.start_mark)
            seen.add(key)
            if key is not None and key_node.tag != "tag:yaml.org,2002:merge":
                key_node.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep=deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(-?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+)$"), list("-0123456789")
)


def load_strict(text: str, loader: Any = _StrictLoader) -> Any:
    """Return the plain values of a YAML text; with `yaml.BaseLoader` all of them as they are written.

    Raises:
        yaml.YAMLError: if it is broken, too deep, or has a key twice.
    """
    try:
        return yaml.load(text, Loader=loader)
    except (RecursionError, TypeError, ValueError) as error:  # TypeError: a key that is a list or mapping
        raise yaml.YAMLError(f"values that YAML cannot hold ({error})") from error


def read_mapping(path: str | Path, what: str) -> dict[str, Any]:
    """Read a YAML file of `key: value`.

    Args:
        path: of the file.
        what: it is, for messages.

    Raises:
        ValueError: if it is no such mapping, or has a key twice; names file, line and column.
    """
    try:
        values = load_strict(Path(path).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        found = " ".join(word for word in (error.problem, error.context) if word)
        raise ValueError(
            f"Expected {what} as YAML `key: value`, found {found} ({str(path)!r}{place}). Correct that line."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected {what} as YAML `key: value`, found {error} ({str(path)!r}).") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"Expected {what} as a YAML mapping `key: value`, found {type(values).__name__} ({str(path)!r})."
        )
    return values
