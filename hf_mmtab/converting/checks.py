"""What a checkpoint of an original becomes, and whether what its files claim is possible, before anything is built."""

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

Tensors = Mapping[str, torch.Tensor]
MOST_NAMED = 5  # tensors that a message names
CHANGED = "The file was changed: take the one that the original wrote."


@dataclass(frozen=True)
class TensorFate:
    """What became of one tensor of the original checkpoint."""

    original: str
    ours: str | None  # None: dropped
    reason: str


@dataclass
class Converted:
    """A checkpoint of an original as our model and processor.

    Args:
        model: in evaluation mode.
        processor: of the model.
        fates: what became of every tensor.
        facts: what the original is, for the report.
        extra: file name → plain value that is written beside the model.
        id_map: of a table's model: our id of each original id.
    """

    model: PreTrainedModel
    processor: Any
    fates: list[TensorFate]
    facts: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    id_map: torch.Tensor | None = None


def shown(value: Any, most: int = 200) -> str:
    """Return the repr of a value from a file, cut short: it may be of any length."""
    try:
        text = reprlib.repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"


def shape_of(state_dict: Tensors, name: str, dims: int) -> tuple[int, ...]:
    """Return the shape of a tensor that sizes are read off.

    Raises:
        ValueError: if it is absent, empty or has another number of dimensions.
    """
    if name not in state_dict:
        raise ValueError(
            f"Expected a tensor {name!r} in the checkpoint, found none. Are the files of the same run, and is the "
            "checkpoint whole?"
        )
    shape = tuple(state_dict[name].shape)
    if len(shape) != dims or 0 in shape:
        raise ValueError(
            f"Expected {name!r} to have {dims} dimensions, none of them empty, found shape {shape}. The checkpoint "
            "was changed or is damaged: copy it again."
        )
    return shape


def fitted_model(build: Callable[[], PreTrainedModel], tensors: Tensors, fates: list[TensorFate], what: str) -> Any:
    """Return a model with converted tensors, in evaluation mode; their shapes are compared before it takes any memory.

    Args:
        build: makes the model.
        tensors: under our names.
        fates: of the original's tensors, whose names messages tell.
        what: begins the message.

    Raises:
        ValueError: names the tensors that lack, are too many or have other shapes.
    """
    names = {fate.ours: fate.original for fate in reversed(fates) if fate.ours is not None}
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    wrong = {
        "missing": [names.get(name, name) for name in expected if name not in tensors],
        "unexpected": [names.get(name, name) for name in tensors if name not in expected],
        "of other shapes": [
            f"{names.get(name, name)} {tuple(tensors[name].shape)} in place of {shape}"
            for name, shape in expected.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ],
    }
    found = []
    for kind, which in wrong.items():
        more = f" and {len(which) - MOST_NAMED} more" if len(which) > MOST_NAMED else ""
        found += [f"{kind}: {', '.join(which[:MOST_NAMED])}{more}"] if which else []
    if found:
        raise ValueError(f"{what}; found {'; '.join(found)}. Are the files of the same run, and whole?")
    model = build()
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def require(right: bool, name: str, wanted: str, value: Any, remedy: str) -> None:
    """Raise a ValueError unless a value of a file is `right`; `wanted` says what it must be."""
    if not right:
        raise ValueError(f"Expected {name} to be {wanted}, found {shown(value)}. {remedy}")


def require_number(
    name: str, value: Any, least: float | None, most: float | None = None, kind: type = int, remedy: str = CHANGED
) -> None:
    """Raise a ValueError unless `value` is a finite number of the kind (an int will do for a float) in the range."""
    right = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    low, high = -float("inf") if least is None else least, float("inf") if most is None else most
    wanted = "a whole number" if kind is int else "a number"
    if least is not None:
        wanted += f" of at least {least}" if most is None else f" from {least} to {most}"
    require(right and low <= value <= high and abs(value) < float("inf"), name, wanted, value, remedy)
