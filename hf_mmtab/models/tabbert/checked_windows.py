"""Inputs of a call whose shapes do not fit together: torch would repeat one mask for all windows, or drop windows."""

from typing import Any

import torch

REMEDY = "Encode rows with the TabBertProcessor saved beside the model, and put windows together with TabBertCollator."
AXES = {"input_ids": 3, "inputs_embeds": 4, "row_states": 3}


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
        ValueError: names the input, the shape that was expected and the one that was found.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    ((name, cells),) = read.items()
    fields = config.num_fields
    if name != "row_states" and (cells.dim() != AXES[name] or cells.shape[2] != fields):
        width = ", cell_hidden" if name == "inputs_embeds" else ""
        raise ValueError(
            f"Expected {name} of shape (batch, rows, {fields}{width}), one id per column {config.fields}, found "
            f"{tuple(cells.shape)}. {REMEDY}"
        )
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
