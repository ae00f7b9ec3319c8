"""Configurations that claim what no model has are refused before anything is built."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers.activations import ACT2FN

MOST_LAYERS = 1000
MOST_LABELS = 1_000_000
MOST_UNITS = 10_000_000


def refuse_absurd_labels(values: dict[str, Any]) -> None:
    """Refuse no labels, and more than there can be: transformers makes up a name for each."""
    labels = values.get("num_labels")
    if labels is None:
        return
    if not isinstance(labels, int) or isinstance(labels, bool) or not 1 <= labels <= MOST_LABELS:
        raise ValueError(f"Expected num_labels of at least 1 and at most {MOST_LABELS}, found {labels!r}.")


def refuse_absurd_depths(*configs: Any) -> None:
    """Refuse a part whose configuration claims more layers than any model has: building them would never end."""
    for config in configs:
        values = config if isinstance(config, dict) else config.to_dict() if config is not None else {}
        for name, value in values.items():
            depths = value if name == "depths" and isinstance(value, list) else [value]
            numbers = [one for one in depths if isinstance(one, int)]
            if (name == "depths" or name.endswith("layers")) and max(numbers, default=0) > MOST_LAYERS:
                raise ValueError(
                    f"Expected {name} of {values.get('model_type')} to be at most {MOST_LAYERS}, found {value}. Is "
                    "its config.json damaged?"
                )


def refuse_absurd_sizes(
    config: Any, names: tuple[str, ...], where: str = "", least: int = 1, most: int = MOST_UNITS
) -> None:
    """Refuse sizes below the least one, or that no model has."""
    values = config if isinstance(config, dict) else vars(config) if config is not None else {}
    for name in names:
        value = values.get(name)
        sizes = value if isinstance(value, list | tuple) else [value]
        if not all(least <= one <= most for one in sizes if isinstance(one, int)):
            raise ValueError(
                f"Expected {where}{name} to be at least {least} and at most {most:,}, found {value}. Correct it, or "
                "copy the config.json of the checkpoint again."
            )


def refuse_unknown_names(values: Mapping[str, Any], where: str = "") -> None:
    """Raise a ValueError for an activation or a dtype that there is not, which would fail later, without its key.

    Args:
        values: of a configuration.
        where: put before the key.
    """
    for key, value in values.items():
        if not isinstance(value, str):
            continue
        if key in ("dtype", "torch_dtype") and not isinstance(getattr(torch, value, None), torch.dtype):
            expected = "a dtype of torch, such as float32"
        elif (key.endswith("_act") or key.startswith("activation")) and value not in ACT2FN:
            expected = f"one of {', '.join(sorted(ACT2FN))}"
        else:
            continue
        raise ValueError(
            f"Expected {where}{key} to be {expected}, found {value!r}. Correct it, or copy the config.json of the "
            "checkpoint again."
        )
