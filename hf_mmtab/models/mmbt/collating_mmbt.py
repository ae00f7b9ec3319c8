"""Rows -> a padded batch, and everything random that happens to pictures in training."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch.nn.utils.rnn import pad_sequence
from torchvision.transforms.v2 import functional as tvF

from .gathered_labels import gather_labels
from .processing_mmbt import MMBTProcessor
from .processor_settings import check_whole
from .several_pictures import stack_masks, stack_pictures

TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OTHER_INPUTS = ("pixel_values", "image_regions", "image_mask", "column_numbers", "column_categories")
INPUTS = (*TEXT_INPUTS, *OTHER_INPUTS)
AUGMENTATIONS = ("none", "flip", "crop")


class MMBTCollator:
    """Pad texts to the longest of the batch, stack pictures, gather labels.

    Rows marked with `augment: True` (`EncodedDataset(..., augment=True)`, training only) have their pictures
    changed at random, from torch's generator; all else is deterministic.

    Args:
        processor: its tokenizer's padding id is used.
        num_labels: needed when a row has a list of labels: `labels` become `(batch, num_labels)` floats, 0 or
            1. Ids beyond it are refused.
        pad_to_multiple_of: round text lengths up, e.g. 8 for tensor cores.
        augment: "none"; "flip" (left-right, every second picture); "crop" (a random part of at least
            `min_crop` of the area, resized back, and flip). Flip is wrong where left and right matter, e.g.
            scans of text.
        min_crop: between 0 and 1.
    """

    def __init__(
        self,
        processor: MMBTProcessor,
        num_labels: int | None = None,
        pad_to_multiple_of: int | None = None,
        augment: Literal["none", "flip", "crop"] = "none",
        min_crop: float = 0.6,
    ):
        if augment not in AUGMENTATIONS:
            raise ValueError(f"Expected augment to be one of {list(AUGMENTATIONS)}, found {augment!r}.")
        if not hasattr(processor, "tokenizer"):
            raise ValueError(f"Expected an MMBTProcessor, found {type(processor).__name__}. Pass the model's own.")
        for name, value in (("num_labels", num_labels), ("pad_to_multiple_of", pad_to_multiple_of)):
            if value is not None:
                check_whole(name, value, 1)
        if not isinstance(min_crop, int | float) or not 0 < min_crop <= 1:
            raise ValueError(f"Expected min_crop above 0 and at most 1, found {min_crop!r}.")
        self.pad_token_id = 0 if processor.tokenizer is None else processor.tokenizer.pad_token_id
        self.num_labels = num_labels
        self.pad_to_multiple_of = pad_to_multiple_of
        self.augment = augment
        self.min_crop = min_crop

    @property
    def random_inputs(self) -> frozenset[str]:
        """Model inputs that differ between epochs: features computed from them must not be reused."""
        return frozenset() if self.augment == "none" else frozenset({"pixel_values"})

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate rows of `MMBTProcessor.encode_row`.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids` `(batch, seq)`; `pixel_values` `(batch, 3, H, W)`
            or `image_regions` `(batch, regions, hidden)`; `image_mask` `(batch,)`; of a processor with several
            pictures a row `(batch, pictures, 3, H, W)` and `(batch, pictures)`; `column_numbers` `(batch,
            columns, 2)` and `column_categories` `(batch, columns)`; `labels` `(batch,)` long
            or `(batch, num_labels)` float; each if the rows have it.

        Raises:
            ValueError: if pictures have different sizes, some rows lack an input or a label that others have, a label
                is no number of a class, or rows have lists of labels and `num_labels` is None.
        """
        batch: dict[str, torch.Tensor] = {}
        if not rows:
            raise ValueError("Expected at least one row to collate, found none. Is the data set empty?")
        if isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows):
            found = "one row" if isinstance(rows, Mapping) else f"a list of {type(rows[0]).__name__}"
            raise ValueError(f"Expected a list of encoded rows, found {found}. Pass `[processor.encode_row(row)]`.")
        if {"image", "text", "sentence1"} & set(rows[0]) and not {"input_ids", "pixel_values"} & set(rows[0]):
            raise ValueError(
                f"Expected encoded rows with input_ids or pixel_values, found {', '.join(rows[0])}. "
                "Encode them first: `dataset.with_transform(processor)`, and remove_unused_columns=False in the "
                "training arguments."
            )
        self._require_same_inputs(rows)
        if "input_ids" in rows[0]:
            batch.update(self._pad_texts(rows))
        if "pixel_values" in rows[0]:
            batch["pixel_values"] = self._stack_pictures(rows)
        if "image_regions" in rows[0]:
            regions = [torch.as_tensor(row["image_regions"]) for row in rows]
            batch["image_regions"] = pad_sequence(regions, batch_first=True)
        if "image_mask" in rows[0]:
            batch["image_mask"] = stack_masks([row["image_mask"] for row in rows])
        for name, kind in (("column_numbers", torch.float32), ("column_categories", torch.long)):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=kind)
        if (labels := gather_labels(rows, self.num_labels)) is not None:
            batch["labels"] = labels
        return batch

    def _require_same_inputs(self, rows: Sequence[dict[str, Any]]) -> None:
        """Refuse rows of which some lack an input that the first has, or have one that it lacks."""
        for name in INPUTS:
            lacking = [number for number, row in enumerate(rows, start=1) if row.get(name) is None]
            if lacking and (len(lacking) < len(rows) or name in rows[0]):
                raise ValueError(
                    f"Expected {name} in every row of a batch or in none, found none in row {lacking[0]} "
                    f"({len(lacking)} of {len(rows)}). Encode all rows with the same processor."
                )

    def _pad_texts(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        # One masked token at least: a batch of empty texts would otherwise have no text axis to speak of.
        longest = max(1, *(len(row["input_ids"]) for row in rows))
        if self.pad_to_multiple_of:
            longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        padded = {}
        for name in TEXT_INPUTS:
            if name not in rows[0]:
                continue
            fill = self.pad_token_id if name == "input_ids" else 0
            padded[name] = torch.full((len(rows), longest), fill, dtype=torch.long)  # (batch, seq)
            for index, row in enumerate(rows):
                padded[name][index, : len(row[name])] = torch.as_tensor(row[name], dtype=torch.long)
        return padded

    def _stack_pictures(self, rows: Sequence[dict[str, Any]]) -> torch.Tensor:
        pictures = [torch.as_tensor(row["pixel_values"]) for row in rows]  # lists, where `map` stored them
        if self.augment != "none":
            pictures = [
                self._change(picture) if row.get("augment") else picture
                for picture, row in zip(pictures, rows, strict=True)
            ]
        return stack_pictures(pictures)

    def _change(self, picture: torch.Tensor) -> torch.Tensor:
        """Return the picture `(3, H, W)` cropped and flipped at random, or each of several."""
        if picture.dim() == 4:
            return torch.stack([self._change(one) for one in picture])
        height, width = picture.shape[-2:]
        if self.augment == "crop":
            side = (self.min_crop + (1 - self.min_crop) * torch.rand(()).item()) ** 0.5
            h, w = max(1, round(side * height)), max(1, round(side * width))
            top = int(torch.randint(height - h + 1, ()))
            left = int(torch.randint(width - w + 1, ()))
            picture = tvF.resized_crop(picture, top, left, h, w, [height, width], antialias=True)
        if torch.rand(()).item() < 0.5:
            picture = picture.flip(-1)
        return picture
