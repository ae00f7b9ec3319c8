"""Is what a file of the original claims possible? Asked before anything is built from it.

`shape_of` and `require_fit` stand in `tabbert/converting_checks_tabbert.py` too: model folders import only their own
files, and each is to stand alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

MOST_NAMED = 5  # tensors that a message names


def shape_of(state_dict: Mapping[str, torch.Tensor], name: str, dims: int) -> tuple[int, ...]:
    """Return the shape of a tensor that sizes are read off.

    Raises:
        ValueError: if it is absent, empty or has another number of dimensions.
    """
    if name not in state_dict:
        raise ValueError(
            f"Expected a tensor {name!r} in the checkpoint, found none. Are args.pt and the checkpoint of the same "
            "run, and is the checkpoint whole?"
        )
    shape = tuple(state_dict[name].shape)
    if len(shape) != dims or 0 in shape:
        raise ValueError(
            f"Expected {name!r} to have {dims} dimensions, none of them empty, found shape {shape}. The checkpoint "
            "was changed or is damaged: copy it again."
        )
    return shape


def require_fit(
    build: Callable[[], PreTrainedModel],
    tensors: Mapping[str, torch.Tensor],
    names: Mapping[str, str],
    what: str,
) -> None:
    """Compare the shapes of converted tensors with the model's, without memory for its weights.

    Args:
        build: makes the model; called on the meta device.
        tensors: under our names.
        names: our name → the original's, for messages.
        what: begins the message.

    Raises:
        ValueError: names the tensors that lack, are too many or have other shapes.
    """
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    wrong = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of other shapes": [
            f"{names.get(name, name)} {tuple(tensors[name].shape)} in place of {shape}"
            for name, shape in expected.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ],
    }
    found = [
        f"{kind}: {_some([names.get(one, one) for one in which])}" for kind, which in wrong.items() if which
    ]
    if found:
        raise ValueError(f"{what}; found {'; '.join(found)}. Are the files of the same run, and whole?")


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def require_number(
    name: str, value: Any, least: float, most: float | None = None, kind: type = int, remedy: str = ""
) -> None:
    """Raise a ValueError unless `value` is a number of the kind (an int will do for a float) in the range."""
    kinds = (int,) if kind is int else (int, float)
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if right and least <= value and value <= (float("inf") if most is None else most):
        return
    wanted = "a whole number" if kind is int else "a number"
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(
        f"Expected {name} to be {wanted} {limits}, found {value!r}.{' ' + remedy if remedy else ''}"
    )
