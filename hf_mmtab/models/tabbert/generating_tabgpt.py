"""Rows from a TabGPT, cell by cell: each drawn among its own field's ids, given what stands before it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from .configuration_tabgpt import TabGPT2Config


class FieldLogits(LogitsProcessor):
    """Leaves to each cell the ids of its own field; for `generate` of a TabGPT, by any way of choosing among them.

    Args:
        config: of the model.
        forbidden: ids that no cell gets.
    """

    def __init__(self, config: TabGPT2Config, forbidden: Sequence[int] = ()) -> None:
        self.outside = torch.ones(config.num_fields, config.vocab_size, dtype=torch.bool)
        for field, (start, end) in enumerate(config.field_ranges):
            self.outside[field, start:end] = False
        self.outside[:, list(forbidden)] = True
        for name, outside in zip(config.fields, self.outside, strict=True):
            if outside.all():
                raise ValueError(f"Expected ids that column {name!r} may get, found all of them forbidden.")

    def field(self, input_ids: torch.Tensor) -> int:
        """Return the field of the next cell, of sequences `(batch, 1 + cells)`; padding before [BOS] is whole rows."""
        return (input_ids.shape[1] - 1) % len(self.outside)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores `(batch, vocab)`, -inf outside of the field."""
        return scores.masked_fill(self.outside[self.field(input_ids)].to(scores.device), -torch.inf)


class DrawnCells(LogitsProcessor):
    """Leaves to each cell the one id that was drawn: each history has random numbers of its own.

    What is drawn for a history does therefore not depend on the batch that it is in.

    Args:
        fields: masks scores first.
        uniforms: in [0, 1), shape `(batch, cells)`, for the cells to be drawn.
        prompt: length of the sequences before the first drawn cell.
        temperature: above 0; below 1 the likelier ids are drawn more often.
        fixed: shape `(batch, fields)`: the id that a column always gets, -1 where it is drawn; None: all drawn.
    """

    def __init__(
        self,
        fields: FieldLogits,
        uniforms: torch.Tensor,
        prompt: int,
        temperature: float,
        fixed: torch.Tensor | None = None,
    ) -> None:
        self.fields, self.uniforms, self.prompt = fields, uniforms, prompt
        self.temperature, self.fixed = temperature, fixed

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores `(batch, vocab)`, -inf but for one id of each sequence."""
        allowed = self.fields(input_ids, scores).double()
        allowed -= allowed.max(dim=-1, keepdim=True).values  # else a temperature near 0 makes them infinite
        chances = (allowed / self.temperature).softmax(dim=-1).cumsum(dim=-1)
        threshold = self.uniforms[:, input_ids.shape[1] - self.prompt, None] * chances[:, -1:]
        drawn = torch.searchsorted(chances, threshold, right=True)  # (batch, 1)
        if self.fixed is not None:
            always = self.fixed[:, self.fields.field(input_ids), None]
            drawn = torch.where(always >= 0, always, drawn)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


@torch.inference_mode()
def generate_rows(
    model: Any,
    past: Sequence[torch.Tensor],
    rows: int,
    seed: int = 0,
    temperature: float = 1.0,
    forbidden: Sequence[int] = (),
    fixed: torch.Tensor | None = None,
    numbers: Sequence[int] | None = None,
) -> torch.Tensor:
    """Draw rows that follow the past rows of several histories, with a cache of keys and values.

    A window of the model is half past, half new: when it is full, its second half becomes the past of the next one. So
    histories may be longer than the windows that the model was trained on.

    Args:
        model: a `TabGPT2LMHeadModel` in evaluation mode.
        past: for each history its past rows, oldest first, ids of shape `(rows of it, fields)`; none is allowed.
        rows: new ones of each history.
        seed: of the random numbers. The same seed, model and past give the same rows, in batches of any size.
        temperature: above 0, finite; below 1 the likelier values are drawn more often.
        forbidden: ids that no cell gets, such as the [UNK] of each field.
        fixed: shape `(histories, fields)`: the id that a column always gets, -1 where it is drawn.
        numbers: of the histories, `past` by `past`, which choose their random numbers; default 0, 1, 2, …

    Returns:
        Ids of shape `(histories, rows, fields)`, on the CPU.

    Raises:
        ValueError: if rows or temperature are not above 0 and finite, or the past does not fit the columns.
    """
    config, count = model.config, len(past)
    if rows < 1 or not 0 < temperature < math.inf:
        raise ValueError(f"Expected rows above 0, and a finite temperature above 0, found {rows} and {temperature}.")
    width, device = config.num_fields, model.device
    known = [torch.as_tensor(one).long().cpu() for one in past]
    if wrong := [tuple(one.shape) for one in known if one.dim() != 2 or one.shape[1] != width]:
        raise ValueError(f"Expected past rows of shape (rows, {width}), found {wrong[0]}.")
    own = range(count) if numbers is None else numbers
    uniforms = torch.from_numpy(np.stack([np.random.default_rng((seed, n)).random(rows * width) for n in own]))
    fields = FieldLogits(config, forbidden)
    half = config.max_rows // 2
    settings = {"do_sample": False, "use_cache": True, "pad_token_id": config.pad_token_id, "eos_token_id": None}
    made = torch.empty(count, 0, width, dtype=torch.long)
    while made.shape[1] < rows:
        new = min(config.max_rows - half, rows - made.shape[1]) * width
        context = [
            torch.cat([one, drawn])[max(0, len(one) + len(drawn) - half) :]
            for one, drawn in zip(known, made, strict=True)
        ]
        ids, mask = _prompts(context, config)
        first = made.shape[1] * width
        draw = DrawnCells(
            fields,
            uniforms[:, first : first + new].to(device),
            ids.shape[1],
            temperature,
            None if fixed is None else fixed.to(device),
        )
        found = model.generate(
            ids.to(device),
            attention_mask=mask.to(device),
            generation_config=GenerationConfig(max_new_tokens=new, **settings),
            logits_processor=LogitsProcessorList([draw]),
        )
        made = torch.cat([made, found[:, ids.shape[1] :].cpu().view(count, -1, width)], dim=1)
    return made


def _prompts(past: Sequence[torch.Tensor], config: TabGPT2Config) -> tuple[torch.Tensor, torch.Tensor]:
    """Return [BOS] and each history's cells, after padding of whole rows, and the mask, both `(batch, 1 + cells)`."""
    longest = max(map(len, past), default=0) * config.num_fields
    ids = torch.full((len(past), 1 + longest), config.pad_token_id or 0)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(past):
        begin = longest - one.numel()
        ids[row, begin], ids[row, begin + 1 :] = config.bos_token_id or 0, one.flatten()
        mask[row, begin:] = 1
    return ids, mask
