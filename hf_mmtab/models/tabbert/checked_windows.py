"""Inputs of a call whose shapes do not fit together: torch would repeat one mask for all windows, or drop windows."""

import difflib
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import BertModel
from transformers.utils import TransformersKwargs

REMEDY = "Encode rows with the TabBertProcessor saved beside the model, and put windows together with TabBertCollator."
AXES = {"input_ids": 3, "inputs_embeds": 4, "row_states": 3}
# What the BERT over rows takes beside cells and mask; the rest it would pass over.
OPTIONS = {*TransformersKwargs.__annotations__, *inspect.signature(BertModel.forward).parameters, "return_dict"}


def check_options(given: Iterable[str], *inputs: str) -> None:
    """Refuse keywords that nothing reads, such as a misspelt mask.

    Args:
        given: keywords of a call that are none of its own.
        inputs: its own, for a hint.

    Raises:
        TypeError: names the keyword and the nearest known one.
    """
    for name in given:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, [*inputs, *OPTIONS], n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise TypeError(f"Expected keywords that the model reads, found {name}.{hint}")


def check_shapes(config: Any, read: dict[str, Any], steps: bool = False, **inputs: Any) -> None:
    """Refuse inputs of other windows or rows than those that are read. Compiled and exported models are not looked at.

    Args:
        config: of the model, for its columns.
        read: the name and the tensor that is read: `input_ids (batch, rows, fields)`, `inputs_embeds (batch, rows,
            fields, cell_hidden)` or `row_states (batch, rows, width)`.
        steps: whether the second axis of `inputs` counts the steps of a flat model, a cell each, and not its rows.
        inputs: by name, each `(batch, rows, …)`; None: not given. `labels` of rows and columns have three axes, as
            have `statistics`, the others two.

    Raises:
        TypeError: if what is read is no tensor, or ids are no whole numbers.
        ValueError: names the input, the shape that was expected and the one that was found.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    ((name, cells),) = read.items()
    fields = config.num_fields
    if not isinstance(cells, torch.Tensor):
        raise TypeError(f"Expected {name} as a torch.Tensor, found a {type(cells).__name__}. {REMEDY}")
    if name == "input_ids" and cells.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"Expected input_ids of int64 or int32, found {cells.dtype}. {REMEDY}")
    if name != "row_states" and (cells.dim() != AXES[name] or cells.shape[2] != fields):
        width = ", cell_hidden" if name == "inputs_embeds" else ""
        raise ValueError(
            f"Expected {name} of shape (batch, rows, {fields}{width}), one id per column {config.fields}, found "
            f"{tuple(cells.shape)}. {REMEDY}"
        )
    if name == "input_ids":
        _check_ids(cells, config)
    if cells.dim() != AXES[name]:
        raise ValueError(f"Expected {name} of shape (batch, rows, width), found {tuple(cells.shape)}. {REMEDY}")
    batch, rows = cells.shape[:2]
    third = {"labels": fields}
    if "statistics" in inputs:
        third["statistics"] = len(config.statistics or [])
    for one, value in inputs.items():
        if value is None:
            continue
        expected = (batch, rows * fields if steps else rows, *([third[one]] if one in third else []))
        if tuple(value.shape) != expected:
            raise ValueError(
                f"Expected {one} of shape {expected}, as {name} of shape {tuple(cells.shape)} has them, found "
                f"{tuple(value.shape)}. {REMEDY}"
            )


def _check_ids(ids: torch.Tensor, config: Any) -> None:
    if not ids.numel():
        raise ValueError(f"Expected at least one window of one row, found input_ids of shape {tuple(ids.shape)}.")
    if ids.device.type != "cpu":  # looking would wait for the device
        return
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= config.vocab_size:
        raise ValueError(f"Expected ids from 0 to {config.vocab_size - 1}, found {least} to {most}. {REMEDY}")
    if config.pad_token_id is not None:
        starts = [start for start, _ in config.field_ranges if start > config.pad_token_id]  # a [SEP] column's is 0
        check_columns(ids, config.fields, torch.tensor(config.field_ranges), min(starts, default=0))


def check_columns(ids: torch.Tensor, fields: Sequence[str], ranges: torch.Tensor, first: int) -> None:
    """Refuse columns in each other's place: one none of whose ids is its own.

    Single foreign ids pass, with which the original's masking replaces cells.

    Args:
        ids: `(batch, rows, fields)`.
        fields: names of the columns.
        ranges: `[start, end)` of the ids of each, `(fields, 2)`.
        first: id that is none of the special ones, which any column may have.

    Raises:
        ValueError: names the column, and whose id it was given.
    """
    own = (ids >= ranges[:, 0]) & (ids < ranges[:, 1])
    foreign = (~own & (ids >= first)).flatten(0, 1)  # (batch × rows, fields)
    if len(wrong := (foreign.any(dim=0) & ~own.flatten(0, 1).any(dim=0)).nonzero()):
        place = int(wrong[0])
        found = int(ids.flatten(0, 1)[foreign[:, place], place][0])
        owners = ((ranges[:, 0] <= found) & (found < ranges[:, 1])).nonzero()
        owner = f"which {fields[int(owners[0])]!r} has" if len(owners) else "which no column has"
        start, end = ranges[place].tolist()
        raise ValueError(
            f"Expected ids from {start} to {end - 1} in column {place} of input_ids, {fields[place]!r}, or special "
            f"ones, found {found}, {owner}. Put the columns in the order {list(fields)}."
        )


def check_sequence_mask(input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None) -> None:
    """Refuse a mask `(batch, seq)` of other sequences than those of `input_ids`; `generate`'s also covers past steps.

    Raises:
        ValueError: names the shape that was expected and the one that was found.
    """
    if input_ids is None or attention_mask is None or attention_mask.dim() != 2 or torch.compiler.is_compiling():
        return
    if attention_mask.shape[0] != input_ids.shape[0] or attention_mask.shape[1] < input_ids.shape[1]:
        raise ValueError(
            f"Expected attention_mask of shape {tuple(input_ids.shape)}, as input_ids has it, found "
            f"{tuple(attention_mask.shape)}. Give a mask for each sequence."
        )
