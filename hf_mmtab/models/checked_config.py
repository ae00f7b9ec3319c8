"""Configurations that claim what no model has are refused before anything is built."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.utils import logging

logger = logging.get_logger(__name__)

MOST_LAYERS = 1000
MOST_LABELS = 1_000_000
MOST_UNITS = 10_000_000
TINY = 1e-30  # above 0
# That are no fields of a configuration, and are read all the same.
OF_TRANSFORMERS = ("transformers_version", "torch_dtype", "auto_map", "custom_pipelines", "classifier_dropout_prob")


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


def refuse_misspelt(config_class: type[PreTrainedConfig], given: Iterable[str], saved: bool) -> None:
    """Raise a TypeError for a keyword that nothing reads and that is nearly one that is read.

    Args:
        config_class: whose keywords they are.
        given: keywords that are no fields.
        saved: whether they come from a config.json, for which there is a warning.
    """
    known = {field.name for field in fields(config_class)} | {*dir(config_class), "attn_implementation", "num_labels"}
    for name in given:
        if name in known or name[0] == "_" or name in OF_TRANSFORMERS:
            continue
        near = difflib.get_close_matches(name, [one for one in known if one[0] != "_"], n=1, cutoff=0.85)
        if not near:
            continue
        sentence = f"Expected keywords that {config_class.__name__} reads, found {name}. Did you mean {near[0]}?"
        if not saved:
            raise TypeError(sentence)
        logger.warning_once(f"{sentence} Nothing reads it: correct config.json, or take it out.")


def refuse_outside(config: Any, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raise a ValueError for a number, or one of several, that is not finite or outside of its bounds.

    Args:
        config: whose values they are; None is any.
        bounds: name → the least and the most value.
    """
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not (math.isfinite(one) and least <= one <= most):
                limit = f"at least {least:g}" if most == math.inf else f"between {least:g} and {most:g}"
                raise ValueError(f"Expected {name} to be {limit}, found {value}. Correct it.")


def refuse_repeated(config: Any, names: Iterable[str]) -> None:
    """Raise a ValueError for a list of names in which one stands twice."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, list) and (twice := [one for one in value if value.count(one) > 1]):
            raise ValueError(f"Expected each name once in {name}, found {twice[0]!r} again. Remove it.")
