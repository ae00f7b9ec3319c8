"""Inputs of a call whose shapes do not fit together: torch would repeat one picture for all rows, or fail far away."""

from typing import Any

import torch
from transformers.utils import logging

# Input → the numbers of axes that it may have. The first is the batch, the second of those of words the sequence.
OF_WORDS = {"attention_mask": (2,), "token_type_ids": (2,), "position_ids": (2,)}
OF_ROWS = {
    "pixel_values": (4, 5),
    "image_regions": (3,),
    "image_mask": (1, 2),
    "column_numbers": (3,),
    "column_categories": (2,),
}
logger = logging.get_logger(__name__)

REMEDY = "Encode rows with the MMBTProcessor saved beside the model, and put them together with MMBTCollator."


def check_shapes(input_ids: Any, inputs_embeds: Any = None, **inputs: Any) -> None:
    """Refuse inputs of other rows or words than the texts have. Compiled and exported models are not looked at.

    Args:
        input_ids: `(batch, seq)`, or None.
        inputs_embeds: `(batch, seq, embedding)`, or None.
        inputs: those of `OF_WORDS` and `OF_ROWS`, by name; None: not given.

    Raises:
        ValueError: names the input, the shape that was expected and the one that was found.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    name, words, axes = ("input_ids", input_ids, 2) if inputs_embeds is None else ("inputs_embeds", inputs_embeds, 3)
    if words is not None and words.dim() != axes:
        expected = "(batch, seq)" if axes == 2 else "(batch, seq, embedding)"
        raise ValueError(f"Expected {name} of shape {expected}, found {tuple(words.shape)}. {REMEDY}")
    given = {name: value for name, value in inputs.items() if value is not None}
    first: Any = next((value for value in (words, *given.values()) if value is not None), None)
    known = OF_WORDS | OF_ROWS
    for name, value in given.items():
        expected = f" and {first.shape[0]} rows"
        fits = value.dim() in known[name] and value.shape[0] == first.shape[0]
        if name in OF_WORDS and words is not None:
            expected = f", {words.shape[0]} rows of {words.shape[1]} words"
            fits = fits and value.shape[1] == words.shape[1]
        if not fits:
            allowed = " or ".join(str(one) for one in known[name])
            raise ValueError(
                f"Expected {name} of {allowed} axes{expected}, as the other inputs have, found the shape "
                f"{tuple(value.shape)}. {REMEDY}"
            )


def check_lengths(longest: int | None, image_length: int, text_length: int, start: int) -> None:
    """Raise a ValueError if a part is longer than the text model's table of positions; None: it has no table.

    Args:
        longest: positions of each part.
        image_length: tokens of the image part.
        text_length: tokens of the text part.
        start: position of the first word.
    """
    if longest is not None and max(image_length, start + text_length) > longest:
        raise ValueError(
            f"Expected at most {longest} tokens in each part, the text model's positions, found {image_length} "
            f"in the image part and {text_length} in the text part"
            f"{f', which starts at position {start}' if start else ''}. Truncate the text, pool the regions, or "
            "read fewer pictures (max_images)."
        )


def check_segments(token_type_ids: torch.Tensor | None, rows: int) -> None:
    """Refuse segments that the table lacks, such as those of a pair; of tensors on the CPU, where looking is free.

    Raises:
        ValueError: if a segment is below 0 or not below `rows`.
    """
    if token_type_ids is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    if token_type_ids.device.type != "cpu" or not token_type_ids.numel():
        return
    least, most = int(token_type_ids.min()), int(token_type_ids.max())
    if least < 0 or most >= rows:
        raise ValueError(
            f"Expected token_type_ids from 0 to {rows - 1}, found {least} to {most}. A pair of texts needs a model "
            "with num_segments=3 (segment 2 is the second text): leave text_pair out, join both texts into one, or "
            "build the model anew."
        )


def check_opening(input_ids: torch.Tensor, attention_mask: torch.Tensor | None, known: int | None, likely: Any) -> None:
    """Refuse texts without a leading [CLS], whose first word would be cut off with it; an empty row may lack it.

    Args:
        input_ids: shape `(batch, seq)`.
        attention_mask: 1 for words, shape `(batch, seq)`; None: all are.
        known: id of [CLS].
        likely: id of [CLS] as a configuration tells it, of which a text without it is warned only; or None.

    Raises:
        ValueError: names the first such row.
    """
    opening = likely if known is None else known
    if opening is None or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    wrong = input_ids[:, 0] != opening
    if attention_mask is not None:
        wrong = wrong & attention_mask.bool().any(dim=1)
    if not bool(wrong.any()):
        return
    row = int(wrong.nonzero()[0, 0])
    told = (
        f"Expected every text to begin with [CLS] (id {opening}), found {int(input_ids[row, 0])} at the start of row "
        f"{row + 1}: a member that is an MMBT, whose picture has the place of [CLS], is given the text without its "
        f"first id. {REMEDY}"
    )
    if known is not None:
        raise ValueError(told)
    logger.warning_once(told)
