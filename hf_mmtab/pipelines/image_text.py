"""`pipeline("image-text-classification")`: MMBT and its baselines."""

# The base class declares its parts as None and its steps with no parameters of their own.
# mypy: disable-error-code="override"

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.nn import functional as F

from ..data.pictures.addresses import fetch_picture, is_address
from ..models.mmbt.collating_mmbt import MMBTCollator
from ..models.mmbt.text_encoding_mmbt import require_text
from ..serving.named_scores import DECIDED, TopK, answers, check_top_k
from .answers import RightPadding, SavedWithProcessor, refuse_unknown

KEYS = {"image", "images", "text", "text_pair", "sentence1", "sentence2", "label", "labels", "id"}  # of an example
# Parameter of the pipeline → of `fetch_picture`.
DOWNLOAD = {
    "download_seconds": "seconds",
    "max_download_bytes": "max_bytes",
    "allow_private_redirects": "allow_private",
}


class ImageTextClassificationPipeline(SavedWithProcessor):
    """Classify pictures with their texts: MMBT and its baselines.

    Example:

    ```python
    import hf_mmtab
    from transformers import pipeline

    classify = pipeline("image-text-classification", model="outputs/openclipart/mmbt-seed1")
    classify({"image": "fork.png", "text": "a fork on a plate"})  # {"label": "food", "score": 0.93}
    classify([{"image": None, "text": "a fork"}, {"image": photo, "text": ""}], batch_size=2, top_k=3)
    ```

    Input: a mapping (or a list, a generator, a torch dataset of them) with `image` (path, address, bytes, PIL picture,
    array; None or left out: missing), or `images` (a list of them), and `text`, `text_pair` for models of pairs, and
    the columns that a model reads beside them under their names (None: missing); rows of our data sets too.
    Output: `{"label", "score"}` at the thresholds in the config; of a model with several labels a list of those that
    reach theirs. `top_k=3` gives the three best, `top_k=None` all.
    A picture behind an address is fetched within `download_seconds=20` and `max_download_bytes=50_000_000`; a redirect
    into the own network is refused unless `allow_private_redirects=True`.

    Raises:
        ValueError: if an input is no such mapping, lacks the text that the model reads, or has a picture that cannot
            be read or fetched.
    """

    _load_processor = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not str(self.model.config.model_type).startswith("mmbt"):
            raise ValueError(
                f"Expected MMBT or one of its baselines, found {type(self.model).__name__}. Pass the folder that "
                "`finetune` wrote; other models have pipelines of their own."
            )
        if not hasattr(self.processor, "encode_row"):
            raise ValueError(f"Expected an MMBTProcessor, found {type(self.processor).__name__}. Pass the model's own.")
        self.collator = MMBTCollator(self.processor)
        self.tokenizer = RightPadding(self.collator.pad_token_id)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Judge one example, a list of them, or as they are asked for those of a `datasets.Dataset` or an iterator."""
        if isinstance(inputs, Iterator) or (hasattr(inputs, "column_names") and hasattr(inputs, "__iter__")):
            inputs = (row for row in inputs)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, top_k: TopK = DECIDED, **others: Any) -> tuple[dict, dict, dict]:
        download = {DOWNLOAD[name]: others.pop(name) for name in DOWNLOAD if name in others}
        refuse_unknown(others, DOWNLOAD)
        check_top_k(top_k)
        return download, {}, {} if top_k == DECIDED else {"top_k": top_k}

    def preprocess(self, example: Any, **download: Any) -> dict[str, torch.Tensor]:
        """Encode one example as a batch of one."""
        row = as_row(example, self.processor, **download)
        if self.processor.tokenizer is not None:
            require_text(row)
        if "sentence2" in row and getattr(self.model.config, "num_segments", 3) < 3:
            raise ValueError(
                "Expected one text, found a pair, but the model was trained on single texts (num_segments 2 in its "
                "config). Leave text_pair out, or join both texts into one."
            )
        inputs = self.collator([self.processor.encode_row(row)])
        if self.processor.max_images > 1 and "image_mask" in inputs:  # transformers puts together equal shapes alone
            lacking = self.processor.max_images - inputs["image_mask"].shape[1]
            inputs["image_mask"] = F.pad(inputs["image_mask"], (0, lacking))
            inputs["pixel_values"] = F.pad(inputs["pixel_values"], (0, 0, 0, 0, 0, 0, 0, lacking))
        return inputs

    def _forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": self.model(**inputs).logits}

    def postprocess(self, outputs: dict[str, torch.Tensor], top_k: TopK = DECIDED) -> Any:
        """Name the labels of one example."""
        return answers(outputs["logits"][0].float().numpy(), self.model.config, top_k)


def as_row(example: Any, processor: Any, **download: Any) -> dict[str, Any]:
    """Return an example of the pipeline as a row of a picture-and-text data set.

    Args:
        example: what a user passed.
        processor: of the model. Further keys are left alone where it reads no picture: none is missing then.
        download: of `fetch_picture`, where the picture is a web address.
    """
    if not isinstance(example, Mapping):
        raise ValueError(
            'Expected a mapping such as {"image": "fork.png", "text": "a fork on a plate"}, found '
            f"{type(example).__name__}. Pass one, or a list of them."
        )
    unknown = sorted(set(example) - KEYS - set(processor.columns or ()))
    if unknown and processor.image_processor is not None and not {"image", "images"} & set(example):
        raise ValueError(
            f"Expected the picture under `image` (None for no picture), found {', '.join(map(repr, unknown))}. Rename "
            "the key."
        )
    row = {name: value for name, value in example.items() if name not in ("label", "labels")}
    if (second := row.pop("text_pair", None)) is not None:
        row |= {"sentence1": row.pop("text", ""), "sentence2": second}
    for name in {"image", "images"} & set(row):
        pictures = row[name] if isinstance(row[name], list | tuple) else [row[name]]
        fetched = [fetch_picture(one, **download) if is_address(one) else one for one in pictures]
        row[name] = fetched if isinstance(row[name], list | tuple) else fetched[0]
    return row
