"""What both pipelines share: one processor beside the model, and saving both."""

# The base class declares its parts as None and its steps with no parameters of their own.
# mypy: disable-error-code="override"

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import Pipeline


@dataclass(frozen=True)
class RightPadding:
    """What transformers' batching asks of a tokenizer."""

    pad_token_id: int
    padding_side: str = "right"


class SavedWithProcessor(Pipeline):
    """What both pipelines share: one processor, padding to the right, and saving both parts."""

    model: Any
    processor: Any
    tokenizer: Any
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Judge one input, or a list of them; see the class."""
        if isinstance(inputs, list) and not inputs:  # of which the base class asks for the first
            return []
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model and processor; loading them takes this package."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def refuse_unknown(parameters: dict[str, Any], known: Iterable[str]) -> None:
    """Raise a ValueError for parameters that are not `known`."""
    if parameters:
        raise ValueError(f"Unknown parameters {sorted(parameters)}. This pipeline takes top_k, {', '.join(known)}.")
