"""Whether what was read from a file of statistics is what was written there."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from .old_labels import OldLabels

COPY_AGAIN = "Copy the file again from where the model came from."
NOT_OF_OLDER = {"old_labels", "orderings", "has_time"}  # files of version 0.1 may lack them
OF_OLD_LABELS = {one.name for one in fields(OldLabels)}


def check_saved(saved: Mapping[str, Any]) -> None:
    """Raise a ValueError unless values are of the kinds that `RowStatistics.to_dict` gives."""

    def is_count(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    def are_names(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(name, str) for name in value)

    def are_counts(value: Any) -> bool:
        return isinstance(value, dict) and all(map(is_count, value.values()))

    def are_pairs(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(p, list) and len(p) == 2 and is_count(p[1]) for p in value)

    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "rows": ("a whole number from 0 on", is_count),
        "counts": (
            "a mapping of categories to pairs of value and count",
            lambda value: isinstance(value, dict) and all(map(are_pairs, value.values())),
        ),
        "missing": ("a mapping of categories to counts", are_counts),
        **dict.fromkeys(("numbered", "crowded", "names", "groups"), ("a list of names", are_names)),
        "categorical": ("a whole number from 0 on", is_count),
        "old_labels": (
            "null, or a mapping of lag, columns and classes",
            lambda value: value is None or (isinstance(value, dict) and value.keys() == OF_OLD_LABELS),
        ),
        "orderings": ("a mapping of orderings to rows", are_counts),
        "has_time": ("true or false", lambda value: isinstance(value, bool)),
    }
    absent, unknown = kinds.keys() - NOT_OF_OLDER - saved.keys(), saved.keys() - kinds.keys()
    if absent or unknown:
        found = f"no {', '.join(sorted(absent))}" if absent else f"{', '.join(sorted(unknown))} beside them"
        raise ValueError(
            f"Expected {', '.join(kinds)} in the statistics of a processor (tabbert_statistics.json), found {found}. "
            f"{COPY_AGAIN}"
        )
    for key, (kind, fits) in kinds.items():
        if key in saved and not fits(saved[key]):
            raise ValueError(
                f"Expected {kind} for {key} in the statistics of a processor (tabbert_statistics.json), found "
                f"{saved[key]!r:.200}. {COPY_AGAIN}"
            )
