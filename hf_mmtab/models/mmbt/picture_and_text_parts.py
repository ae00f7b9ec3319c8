"""What MMBT's encoder and the baselines share: a text part and an image part, to freeze, store and start from."""

from typing import Any

import torch
from torch import nn

from ..checked_loading import CheckedLoadingMixin
from .image_regions import image_feature_map, pool_regions
from .text_parts import layer_path, mean_of_states, without_pooler


class FromVisionAndText(CheckedLoadingMixin):
    """Goes before `PreTrainedModel`: models that start from two checkpoints, and load whole or not at all."""

    _builder = "from_text_image_pretrained"
    main_input_name = "input_ids"
    input_modalities: Any = ["image", "text"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    # The loss is a plain mean: without this, Trainer would leave out the division by accumulation steps.
    accepts_loss_kwargs = False

    @classmethod
    def from_vision_text_pretrained(cls, vision: str | None, text: str | None, **kwargs: Any) -> Any:
        """Start from two checkpoints in the order of transformers' dual encoders; see `from_text_image_pretrained`."""
        return cls.from_text_image_pretrained(text, vision, **kwargs)  # type: ignore[attr-defined]


class PictureAndTextParts:
    """Mixin for models with a `text_model` and an `image_model`; a baseline may lack either (None)."""

    config: Any
    dtype: torch.dtype
    text_model: Any
    image_model: Any
    pooler: Any

    @property
    def freezable_modules(self) -> dict[str, str]:
        """Part name → module path, of the parts that there are. Embeddings, projection and pooler always train."""
        parts = {}
        if self.text_model is not None:
            parts["text_encoder"] = f"text_model.{layer_path(self.text_model)}"
        if self.image_model is not None:
            parts["image_encoder"] = "image_model"
        return parts

    @property
    def cacheable_features(self) -> dict[str, dict[str, Any]]:
        """What may be computed once per example while a part is frozen: part → inputs, output, method."""
        if self.image_model is None:
            return {}
        return {
            "image_encoder": {
                "inputs": ["pixel_values"],
                "output": "image_regions",
                "method": "get_image_features",
                "computed_by": "image_model",  # so MMBT and its baselines share what the same encoder gave
                "depends_on": ["image_config", "num_image_embeds", "image_pooling"],
            }
        }

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the pooled regions of normalised pictures, `(batch, num_image_embeds, image_hidden)`.

        With `image_pooling="none"`, all cells of the feature map: `(batch, rows * columns, image_hidden)`. Of several
        pictures a row, `(batch, pictures, 3, height, width)`, the regions stand one behind the other.
        """
        pictures = pixel_values.flatten(0, -4)  # (batch * pictures, 3, height, width)
        feature_map = image_feature_map(self.image_model, pictures.to(self.dtype))
        regions = pool_regions(feature_map, self.config.num_image_embeds, self.config.image_pooling)
        return regions if pixel_values.dim() == 4 else regions.unflatten(0, pixel_values.shape[:2]).flatten(1, 2)

    def read_pictures(
        self, pixel_values: torch.Tensor | None, image_regions: torch.Tensor | None, image_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return regions `(batch, pictures * regions, image_hidden)` and which pictures are there `(batch, pictures)`.

        Of several pictures a row, only those that are there go through the image model.

        Raises:
            ValueError: if a row has more pictures than the model reads, or regions are of another model.
        """
        given: Any = pixel_values if image_regions is None else image_regions
        mask = given.new_ones(given.shape[: 2 if given.dim() == 5 else 1]) if image_mask is None else image_mask
        mask = mask if mask.dim() == 2 else mask[:, None]
        several = given.shape[1] if given.dim() == 5 else 1 if image_regions is None else mask.shape[1]
        if several != mask.shape[1] or several > self.config.max_images:
            raise ValueError(
                f"Expected an image_mask for each picture, and at most {self.config.max_images} pictures a row "
                f"(max_images of the model), found pictures of shape {tuple(given.shape)} with an image_mask of shape "
                f"{tuple(mask.shape)}. Encode rows with the MMBTProcessor saved beside the model."
            )
        if image_regions is not None:
            return self._require_regions(image_regions, several).to(self.dtype), mask
        if given.dim() == 4:
            return self.get_image_features(given), mask
        there = mask.bool()
        there = there | (~there.any() & (torch.arange(there.numel(), device=there.device) == 0).view_as(there))  # one
        found = self.get_image_features(given[there])  # (pictures that are there, regions, image_hidden)
        regions = found.new_zeros((*mask.shape, *found.shape[1:]))
        regions[there] = found
        return regions.flatten(1, 2), mask

    def _require_regions(self, regions: torch.Tensor, pictures: int) -> torch.Tensor:
        pooled = self.config.image_pooling != "none"
        count = self.config.num_image_embeds * pictures if pooled else regions.shape[1]
        expected = (count, self.config.image_hidden_size)
        if tuple(regions.shape[1:]) != expected or count % pictures:
            raise ValueError(
                f"Expected image_regions of shape (batch, {expected[0]}, {expected[1]}), found "
                f"{tuple(regions.shape)}. Compute them anew with this model's get_image_features."
            )
        return regions

    def pool_by_mean(self) -> None:
        """Read the mean of the last states from now on; what pooled the first position is taken away."""
        self.config.text_pooling, self.pooler = "mean", None
        without_pooler(self.text_model)

    def _pool(self, outputs: Any, mask: torch.Tensor) -> torch.Tensor:
        """Return what the classifier reads of a text model's outputs, `(batch, hidden)`; `mask` `(batch, seq)`."""
        if self.config.text_pooling == "mean":
            return mean_of_states(outputs.last_hidden_state, mask)
        return outputs.pooler_output if self.pooler is None else self.pooler(outputs.last_hidden_state)

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings.

        Raises:
            ValueError: if there is no text encoder.
        """
        self._require_text_model()
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        self._require_text_model()
        self.text_model.set_input_embeddings(value)

    def _require_text_model(self) -> None:
        if self.text_model is None:
            raise ValueError(f"The baseline {self.config.baseline!r} has no trained word embeddings.")
