"""One example of a service → the arrays that an exported model reads, without torch and transformers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from ..models.mmbt.image_reading_mmbt import crop_extreme_aspect, is_missing, read_image
from ..models.mmbt.text_encoding_mmbt import encode_texts, require_text, texts_of
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..models.tabbert.processing.entity_history import check_history
from ..models.tabbert.processing.field_ids import ARRAYS_NAME, VALUES_NAME, FieldIds
from .resizing import resize_as_torch

TOKENIZER_NAME = "tokenizer.json"
TABLE_NAME = "preprocessor_config.json"
Inputs = dict[str, np.ndarray]  # of one example: name of the model's input → its values


class SavedFields(FieldIds):
    """The fields of a saved `TabBertProcessor`."""

    def __init__(self, folder: Path) -> None:
        saved = json.loads((folder / TABLE_NAME).read_text(encoding="utf-8"))
        self.plan = ColumnPlan.from_dict(saved["plan"])
        self.rows_fitted = saved["rows_fitted"]
        words = json.loads((folder / VALUES_NAME).read_text(encoding="utf-8"))
        self.load_fitted(saved["fitted"], words, load_file(folder / ARRAYS_NAME), saved["fingerprint"])

    def ids(self, table: Any) -> np.ndarray:
        """Return the ids of one history, `(rows, fields)` int64.

        Raises:
            ValueError: if the table holds several entities or a row after a later one, or lacks a column.
        """
        check_history(table, self.plan, None)
        encoded = self.encode(table)
        return np.stack([encoded[name].to_numpy() for name in self.fields], axis=1).astype(np.int64)


class SavedTokenizer:
    """A tokenizer's file, called as `encode_texts` calls a tokenizer of transformers."""

    bos_token_id = eos_token_id = None

    def __init__(self, file: Path, cls_token_id: int | None, sep_token_id: int | None) -> None:
        self.backend: Any = Tokenizer.from_file(str(file))
        self.backend.no_truncation()
        self.backend.no_padding()
        self.cls_token_id, self.sep_token_id = cls_token_id, sep_token_id

    def __call__(self, texts: Sequence[str], **settings: Any) -> dict[str, list[list[int]]]:
        """Return `input_ids` without special tokens."""
        return {"input_ids": [one.ids for one in self.backend.encode_batch(texts, add_special_tokens=False)]}


class PictureAndText:
    """Encodes pictures and texts as the `MMBTProcessor` that was exported.

    Args:
        folder: with the tokenizer's file, if the model reads texts.
        text: settings of the text, or None.
        image: settings of the picture, or None.
    """

    def __init__(self, folder: Path, text: dict[str, Any] | None, image: dict[str, Any] | None) -> None:
        self.text, self.image = text, image
        if text is not None:
            self.tokenizer = SavedTokenizer(folder / TOKENIZER_NAME, text["cls_token_id"], text["sep_token_id"])

    def __call__(self, example: Mapping[str, Any]) -> Inputs:
        """Return the inputs of one example with `image`, `text` and `text_pair`, without a batch axis."""
        row = dict(example)
        if (second := row.pop("text_pair", None)) is not None:
            row |= {"sentence1": row.pop("text", ""), "sentence2": second}
        inputs: Inputs = {}
        if self.text is not None:
            require_text(row)
            if "sentence2" in row and not self.text["pairs"]:
                raise ValueError(
                    "Expected one text, found a pair, but the model was trained on single texts. Leave text_pair out, "
                    "or join both texts into one."
                )
            scheme = {name: self.text[name] for name in ("max_length", "leading_cls", "segment_offset")}
            encoded = encode_texts(self.tokenizer, *texts_of(row), **scheme)
            inputs |= {name: np.array(rows[0], dtype=np.int64) for name, rows in encoded.items()}
        if self.image is not None:
            inputs["pixel_values"], present = self._read(row.get("image"), self.image)
            inputs["image_mask"] = np.array(present)
        return inputs

    def _read(self, picture: Any, settings: dict[str, Any]) -> tuple[np.ndarray, int]:
        """Return pixels `(3, H, W)` float32, and 1, or what stands for a missing picture."""
        if not is_missing(picture):
            image = read_image(picture, background=settings["background"], upright=settings["upright"])
            return to_pixels(crop_extreme_aspect(image), settings), 1
        pixels = to_pixels(Image.new("RGB", (256, 256), (128, 128, 128)), settings)
        grey = settings["missing_image"] == "grey"
        return (pixels if grey else np.zeros_like(pixels)), int(grey)


def to_pixels(image: Image.Image, settings: dict[str, Any]) -> np.ndarray:
    """Resize, crop at the centre, scale and normalise a picture, `(3, H, W)` float32.

    Args:
        image: of mode RGB.
        settings: `resize` (height and width, or the short edge), `resample`, `backend`, `crop` (height and width,
            or None), `rounded_crop` (the corner rounded instead of cut), `scale`, `mean`, `std`.
    """
    size = settings["resize"]
    if isinstance(size, int):
        short = min(image.size)
        size = [size if side == short else int(size * side / short) for side in (image.height, image.width)]
    pixels = np.asarray(image)  # (H, W, 3) uint8
    if size is not None and settings["backend"] == "torchvision":
        pixels = resize_as_torch(pixels, (size[0], size[1]), settings["resample"])
    elif size is not None and (size[1], size[0]) != image.size:
        pixels = np.asarray(image.resize((size[1], size[0]), resample=settings["resample"]))
    if settings["crop"] is not None:
        height, width = settings["crop"]
        room = (pixels.shape[0] - height) / 2, (pixels.shape[1] - width) / 2
        top, left = (round(one) if settings["rounded_crop"] else int(one) for one in room)
        pixels = pixels[top : top + height, left : left + width]
    mean, std = np.float32(settings["mean"]), np.float32(settings["std"])
    pixels = (pixels.astype(np.float32) * np.float32(settings["scale"]) - mean) / std
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
