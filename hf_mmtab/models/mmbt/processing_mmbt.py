"""One picture and one text (or two) -> the tensors that MMBT and its baselines read."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, BaseImageProcessor, BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin
from transformers.utils import PROCESSOR_NAME

from ..travelling import TravellingMixin
from .beside_columns import Columns, encode_columns
from .given_rows import as_list, batch_of, cells_beside, columns_of_table, rows_of
from .glove_mmbt import glove_tokenizer
from .image_processing_mmbt import IMAGENET_MEAN, IMAGENET_STD, MMBTImageProcessor, pixels_of
from .image_reading_mmbt import crop_extreme_aspect, is_missing, read_image
from .pretrained_parts import checkpoint_name, other_part_named
from .processor_settings import (
    check_choice,
    check_columns,
    check_flags,
    check_lengths,
    check_lists_only,
    check_parts,
    check_whole,
    own_settings,
    refuse_unread,
)
from .several_pictures import COLUMNS, as_listed, as_pictures, pictures_of, stack_masks, stack_pictures
from .text_encoding_mmbt import encode_texts, needed_lengths, pad_texts, texts_of

TORCHVISION_PREFIX = "torchvision:"
DEFAULT_MAX_LENGTH = 512  # word pieces, the original's --max_seq_len
RESOLVED = ("max_length", "leading_cls", "segment_offset")  # named in the signature of `from_text_image_pretrained`


class MMBTProcessor(TravellingMixin, ProcessorMixin):
    """Image processor and tokenizer of MMBT; either may be absent (image-only, text-only baselines).

    Text has no leading [CLS] by default, since the image part of MMBT owns it. A single text keeps its first
    `max_length - 1` pieces and gets no [SEP]; a pair becomes `s1 [SEP] s2 [SEP]` and loses pieces from the
    longer side until `max_length - 3` remain (facebookresearch/mmbt at ad71e9c, mmbt/data/dataset.py).

    Args:
        image_processor: any transformers image processor whose output has one fixed size, or None.
        tokenizer: any transformers tokenizer with a padding token, or None.
        max_length: of the text, in pieces.
        leading_cls: put [CLS] (or the tokenizer's first special token) before the text: text-only models,
            concatbert.
        segment_offset: segment of the first sentence: 1 for MMBT (0 is the picture), 0 for text-only models.
        missing_image: what a missing picture becomes: "mask" (zeros and `image_mask` 0) or "grey" (the
            original's grey picture, which counts as a picture, so `image_mask` 1).
        transparency: "white" puts transparent pictures on white; "drop" ignores transparency as the original
            does.
        upright: turn pictures as their EXIF orientation says.
        columns: of numbers and categories that a row has beside picture and text, as `fit_columns` learned them.
        max_images: pictures of a row that are read, the first so many. From 2 on, `pixel_values` and `image_mask`
            have a further axis of pictures.
    """

    def __init__(
        self,
        image_processor: BaseImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        max_length: int = DEFAULT_MAX_LENGTH,
        leading_cls: bool = False,
        segment_offset: int = 1,
        missing_image: Literal["mask", "grey"] = "mask",
        transparency: Literal["white", "drop"] = "white",
        upright: bool = True,
        columns: Columns | None = None,
        max_images: int = 1,
    ):
        check_parts(image_processor, tokenizer)
        parts = {"image_processor": image_processor, "tokenizer": tokenizer}
        present = {name: part for name, part in parts.items() if part is not None}
        check_whole("max_length", max_length, 4, " (a pair needs 3 special tokens)")
        check_whole("max_images", max_images, 1)
        check_whole("segment_offset", segment_offset, 0)
        check_flags(leading_cls=leading_cls, upright=upright)
        check_choice("missing_image", missing_image, ("mask", "grey"))
        check_choice("transparency", transparency, ("white", "drop"))
        check_columns(columns)
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.max_length, self.leading_cls, self.segment_offset = max_length, leading_cls, segment_offset
        self.missing_image, self.transparency, self.upright = missing_image, transparency, upright
        self.columns, self.max_images = columns, max_images
        self._blank_pixels: torch.Tensor | None = None
        # ProcessorMixin takes every part of the signature for given: tell it which ones this processor has.
        self.__dict__["get_attributes"] = partial(list, list(present))
        super().__init__(**present)
        self.auto_map = self.auto_classes()

    @classmethod
    def from_text_image_pretrained(
        cls,
        text: str | None,
        image: str | None,
        *,
        preset: Literal["backbone", "legacy"] = "backbone",
        max_length: int | None = None,
        leading_cls: bool = False,
        segment_offset: int = 1,
        **kwargs: Any,
    ) -> "MMBTProcessor":
        """Build the processor of a new model from the checkpoints that it starts from.

        Args:
            text: name or folder of a tokenizer, path of a GloVe text file (whitespace words), or None.
            image: name or folder of an image processor, `torchvision:resnet152` and the like (ImageNet
                statistics), or None.
            preset: "backbone" takes the image checkpoint's own statistics; "legacy" the original's (Resize
                256, CenterCrop 224, its mean and deviation, transparency dropped, EXIF ignored, grey for
                missing pictures).
            max_length: of the text in pieces; default the tokenizer's own limit, at most 512.
            leading_cls, segment_offset: see the class.
            kwargs: settings of the class, before those of the preset; others are passed to `AutoTokenizer` and
                `AutoImageProcessor` (`revision`, `token`, ...).
                A keyword that neither of them takes is a TypeError.
        """
        check_choice("preset", preset, ("backbone", "legacy"))
        text = None if text is None else checkpoint_name(text, "a tokenizer")
        image = None if image is None else checkpoint_name(image, "an image processor")
        own, kwargs = own_settings(cls, kwargs, ("image_processor", "tokenizer", *RESOLVED))
        tokenizer = None
        if text is not None:
            is_glove = Path(text).is_file()
            with other_part_named(text, "tokenizer"):
                tokenizer = glove_tokenizer(text) if is_glove else AutoTokenizer.from_pretrained(text, **kwargs)
        image_processor = None
        if image is not None and preset == "legacy":
            image_processor = MMBTImageProcessor()
        elif image is not None and image.startswith(TORCHVISION_PREFIX):
            image_processor = MMBTImageProcessor(image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD)
        elif image is not None:
            with other_part_named(image, "image processor"):
                image_processor = AutoImageProcessor.from_pretrained(image, **kwargs)
        refuse_unread(kwargs, cls, tokenizer, image_processor)
        if max_length is None:
            limit = DEFAULT_MAX_LENGTH if tokenizer is None else tokenizer.model_max_length
            max_length = min(DEFAULT_MAX_LENGTH, limit)
        # NOTE[DIFF] The original drops transparency and ignores EXIF; that is kept under "legacy" only, since
        # clip art on a transparent ground would turn into whatever colour lies below, and phone photos would
        # lie on their side.
        legacy = {"missing_image": "grey", "transparency": "drop", "upright": False} if preset == "legacy" else {}
        scheme = {"max_length": max_length, "leading_cls": leading_cls, "segment_offset": segment_offset}
        return cls(image_processor, tokenizer, **{**legacy, **scheme, **own})

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        text_pair: str | Sequence[str] | None = None,
        *,
        return_tensors: Literal["pt", "np"] | None = "pt",
        padding: bool | Literal["longest", "max_length"] = True,
        max_length: int | None = None,
        truncation: bool = True,
        columns: Any = None,
        text_kwargs: Mapping[str, Any] | None = None,
        images_kwargs: Mapping[str, Any] | None = None,
    ) -> BatchFeature:
        """Encode one example or a batch.

        Args:
            images: one picture or a list (see `read_image` for the kinds), with a list inside it for an example of
                several; None, or None inside a list: missing. Or a batch of rows as `Dataset.map` passes it, a
                list of rows, a `Dataset`, an Arrow table or a frame of polars or pandas: each row is encoded as
                `encode_row` does, without padding.
            text, text_pair: one text or a list; `text_pair` for pairs of sentences.
            return_tensors: "pt", "np", or None for lists.
            padding: to the longest text of the batch, to `max_length`, or not at all (lists only).
            max_length: overrides the processor's.
            truncation: cut texts to `max_length`; False keeps them whole.
            columns: of a processor with `columns`: name → a value, or a list of one for each example; or a table.
            text_kwargs: `padding`, `max_length` and `truncation`, as transformers groups them.
            images_kwargs: of the image processor, for this call.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids` `(batch, seq)`, `pixel_values` `(batch, 3, H, W)`
            and `image_mask` `(batch,)`, as far as the processor has a tokenizer and an image processor; with
            `max_images` from 2 on `(batch, pictures, 3, H, W)` and `(batch, pictures)`.

        Raises:
            TypeError: if `text_kwargs` holds another keyword.
            ValueError: if the inputs have different lengths, a text is no string, columns are not read, or a picture
                cannot be read.
        """
        images = columns_of_table(images)
        if isinstance(images, Mapping) and not {"bytes", "path"} & set(images):
            rows = rows_of(images, self.columns or ())
            if not isinstance(rows, list):
                return BatchFeature(self.encode_row(rows))
            return BatchFeature(batch_of([self.encode_row(row) for row in rows]))
        grouped = {"padding": padding, "max_length": max_length, "truncation": truncation, **(text_kwargs or {})}
        if unknown := sorted(set(grouped) - {"padding", "max_length", "truncation"}):
            raise TypeError(f"Expected padding, max_length and truncation in text_kwargs, found {unknown}.")
        padding, max_length = grouped["padding"], grouped["max_length"]
        check_lengths(padding, max_length, grouped["truncation"])
        texts, pairs = as_list(text, "text"), as_list(text_pair, "text_pair")
        images = as_listed(images)
        pictures = images if isinstance(images, list) or images is None else [images]
        given = {"images": pictures, "text": texts, "text_pair": pairs}
        lengths = {name: len(values) for name, values in given.items() if values is not None}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"Expected as many pictures as texts, found {lengths or 'neither'}. "
                "Pass lists of one length, with None for a missing picture."
            )
        batch_size = next(iter(lengths.values()))
        if not batch_size:
            raise ValueError(f"Expected at least one example, found empty lists ({', '.join(lengths)}). Pass one.")
        data: dict[str, Any] = {}
        if self.tokenizer is not None:
            if texts is None:
                raise ValueError("Expected `text`, found None. Pass one text (it may be empty) for each picture.")
            limit = (max_length or self.max_length) if grouped["truncation"] else sys.maxsize
            encoded = self._encode_texts(texts, pairs, limit)
            if padding:
                length = max_length or self.max_length if padding == "max_length" else None
                encoded = pad_texts(encoded, self.tokenizer.pad_token_id, length)
            check_lists_only(map(len, encoded["input_ids"]), return_tensors)
            data.update(encoded)
        if self.image_processor is not None:
            shown = pictures or [None] * batch_size
            pixels = [self.encode_pictures({"image": one}, **(images_kwargs or {})) for one in shown]
            data["pixel_values"] = stack_pictures([one["pixel_values"] for one in pixels])  # (batch, 3, H, W)
            data["image_mask"] = stack_masks([one["image_mask"] for one in pixels]).tolist()
            if return_tensors != "pt":
                data["pixel_values"] = data["pixel_values"].numpy()
        beside = cells_beside(columns, list(self.columns or ()), batch_size)
        if self.columns:
            encoded_rows = [encode_columns(self.columns, row) for row in beside]
            data.update({name: [row[name] for row in encoded_rows] for name in encoded_rows[0]})
        return BatchFeature(data, tensor_type=return_tensors)

    def encode_row(self, row: Mapping[str, Any], skip: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Encode one row of a picture-and-text data set, without padding.

        Args:
            row: `image` (path, bytes, PIL image, ... or None) or `images` (a list of them), `text` or `sentence1` and
                `sentence2`, and `label` (int) or `labels` (list of ints) if there is one.
            skip: model inputs that are not wanted; with "pixel_values" the picture is not even decoded.

        Returns:
            `input_ids`, `attention_mask`, `token_type_ids` (lists), `pixel_values` `(3, H, W)`, `image_mask`
            (0 or 1; both of each picture, with `max_images` from 2 on) and `labels` (an int, or a list of ints for
            several labels).
        """
        if not isinstance(row, Mapping):
            raise ValueError(f"Expected a row, a mapping with image and text, found {type(row).__name__}. Pass one.")
        encoded: dict[str, Any] = {}
        if self.tokenizer is not None and "input_ids" not in skip:
            encoded.update({name: values[0] for name, values in self._encode_texts(*texts_of(row)).items()})
        if self.image_processor is not None:
            encoded.update(self.encode_pictures(row, skip))
        if self.columns:
            encoded.update(encode_columns(self.columns, row))
        label = row.get("labels", row.get("label"))
        if label is not None:
            encoded["labels"] = label
        return {name: value for name, value in encoded.items() if name not in skip}

    def encode_pictures(
        self, row: Mapping[str, Any], skip: frozenset[str] = frozenset(), **options: Any
    ) -> dict[str, Any]:
        """Return `pixel_values` and `image_mask` of a row, see `encode_row`."""
        pictures = as_pictures(pictures_of(row), self.max_images)
        found: dict[str, Any] = {}
        if "pixel_values" in skip:
            found["image_mask"] = [int(self.missing_image == "grey" or not is_missing(one)) for one in pictures]
        else:
            encoded = [self._encode_image(one, **options) for one in pictures]
            found["pixel_values"] = stack_pictures([pixels for pixels, _ in encoded])
            found["image_mask"] = [mask for _, mask in encoded]
        return found if self.max_images > 1 else {name: values[0] for name, values in found.items()}

    def text_lengths(self, rows: Any) -> np.ndarray | None:
        """Return for each row the smallest `max_length` that cuts nothing off its text, `(rows,)` int64.

        Only the text columns are read. None: the processor reads no text, or the rows have none.
        """
        columns = [name for name in ("text", "sentence1", "sentence2") if name in rows.column_names]
        if self.tokenizer is None or not columns:
            return None
        lengths: list[int] = []
        for batch in rows.select_columns(columns).iter(batch_size=1000):
            pairs = batch.get("sentence2")
            lengths += needed_lengths(self.tokenizer, batch["text" if pairs is None else "sentence1"], pairs)
        return np.array(lengths, dtype=np.int64)

    @property
    def model_input_names(self) -> list[str]:
        text = ["input_ids", "attention_mask", "token_type_ids"] if self.tokenizer is not None else []
        beside = [encode_columns(self.columns, dict.fromkeys(self.columns))] if self.columns else []
        text += [name for one in beside for name in one]
        return text + (["pixel_values", "image_mask"] if self.image_processor is not None else [])

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides what an example becomes: the settings and the whole tokenizer."""
        settings = {name: value for name, value in self.to_dict().items() if name != "auto_map"}
        state = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        if self.tokenizer is not None:
            backend = json.loads(self.tokenizer.backend_tokenizer.to_str())
            backend.update(padding=None, truncation=None)  # moods of the last call, not settings
            state += json.dumps(backend, sort_keys=True)
        return hashlib.sha256(state.encode()).hexdigest()[:16]

    def source_of(self, inputs: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
        """Return columns, of which the first that rows have counts, and a hash of the settings from which model
        inputs are made; None: of all of them.

        Args:
            inputs: names as in `model_input_names`.
        """
        if set(inputs) != {"pixel_values"}:
            return None
        names = ("image_processor", "image_backend", "missing_image", "transparency", "upright")
        settings = json.loads(self.to_json_string())
        text = json.dumps({name: settings.get(name) for name in names}, sort_keys=True)
        return COLUMNS, hashlib.sha256(text.encode()).hexdigest()[:16]

    def _encode_texts(
        self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int | None = None
    ) -> dict[str, list[list[int]]]:
        scheme: dict[str, Any] = {"leading_cls": self.leading_cls, "segment_offset": self.segment_offset}
        return encode_texts(self.tokenizer, texts, pairs, max_length=max_length or self.max_length, **scheme)

    def _encode_image(self, picture: Any, **options: Any) -> tuple[torch.Tensor, int]:
        """Return pixels `(3, H, W)`, float32, and 1, or what stands for a missing picture."""
        if not is_missing(picture):
            background = 255 if self.transparency == "white" else None
            image = read_image(picture, background=background, upright=self.upright)
            return pixels_of(self.image_processor, crop_extreme_aspect(image), **options), 1
        if self._blank_pixels is None or options:
            grey = Image.fromarray(np.full((256, 256, 3), 128, dtype=np.uint8))
            pixels = pixels_of(self.image_processor, grey, **options)
            blank = pixels if self.missing_image == "grey" else torch.zeros_like(pixels)
            if options:
                return blank, int(self.missing_image == "grey")
            self._blank_pixels = blank
        return self._blank_pixels.clone(), int(self.missing_image == "grey")

    def _travels_as(self) -> dict[str, str]:
        return {"AutoProcessor": "MMBTProcessor"}

    def to_dict(self) -> dict[str, Any]:
        settings = super().to_dict()
        if self.tokenizer is None:
            settings["tokenizer"] = None  # ProcessorMixin writes nothing about tokenizers, present or not
        if self.image_processor is not None:
            # The image processor's own settings lack it; on the other backend pixels differ by a level.
            settings["image_backend"] = getattr(self.image_processor, "backend", None)  # timm's has none
        return settings

    @classmethod
    def get_processor_dict(cls, pretrained_model_name_or_path, **kwargs):
        """Read `processor_config.json`, without which texts and pictures would be read by defaults.

        Raises:
            ValueError: if it is not there, or of something else.
        """
        found, rest = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        if "processor_class" not in found:
            raise ValueError(
                f"Expected the settings of an MMBTProcessor in {PROCESSOR_NAME} of "
                f"{str(pretrained_model_name_or_path)!r}, found {', '.join(found) or 'no such file'}. Copy it from "
                "where the model came from, or save the processor there."
            )
        return found, rest

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        processor_dict = {} if processor_dict is None else processor_dict
        backend = processor_dict.pop("image_backend", None)
        image_processor = tokenizer = None
        if processor_dict.get("image_processor") is not None:
            name = pretrained_model_name_or_path
            image_processor = AutoImageProcessor.from_pretrained(name, backend=backend, **kwargs)
        if "tokenizer" not in processor_dict:
            tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return [image_processor, tokenizer]
