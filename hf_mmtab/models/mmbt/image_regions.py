"""From any image model's output to a few region vectors: the last feature map, pooled."""

import copy
import inspect
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

# Grid (height, width) of the pooled regions for each `num_image_embeds`; arXiv:1909.02950 and its code.
REGION_GRIDS = {n: (n, 1) for n in (1, 2, 3, 5, 7)} | {4: (2, 2), 6: (3, 2), 8: (4, 2), 9: (3, 3)}
DEFAULT_IMAGE_SIZE = 224


def image_feature_map(image_model: PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """Return the last feature map of an image model, `(batch, channels, height, width)`.

    Convolutional models give it as it is. Patch tokens of a transformer are laid out on the grid of patches,
    after the class, distillation or register tokens in front of them are dropped. Where the model can, its
    position table is interpolated for a picture of another size than it was built for.

    Args:
        image_model: any transformers image model.
        pixel_values: shape `(batch, 3, height, width)`, normalised; need not be square.

    Raises:
        ValueError: if the model's tokens are not the cells of a grid of patches.
    """
    height, width = pixel_values.shape[-2:]
    option = "interpolate_pos_encoding"
    takes_it = option in inspect.signature(image_model.forward).parameters
    options = {option: True} if takes_it and (height, width) != _built_for(image_model.config) else {}
    states = image_model(pixel_values=pixel_values, return_dict=True, **options).last_hidden_state
    if states.dim() == 4:
        return states  # (batch, channels, height, width)
    rows, columns = patch_grid(image_model.config, states.shape[1], height, width)
    patches = states[:, states.shape[1] - rows * columns :]  # (batch, rows * columns, channels)
    return patches.transpose(1, 2).unflatten(2, (rows, columns))  # (batch, channels, rows, columns)


def pool_regions(feature_map: torch.Tensor, num_image_embeds: int, image_pooling: str) -> torch.Tensor:
    """Pool a feature map `(batch, channels, height, width)` to `(batch, regions, channels)`, row by row.

    Args:
        feature_map: of any height and width.
        num_image_embeds: number of regions, a key of `REGION_GRIDS`; not used by `none`.
        image_pooling: `avg`, `max`, or `none` for every cell of the map.
    """
    if image_pooling != "none":
        pool = F.adaptive_avg_pool2d if image_pooling == "avg" else F.adaptive_max_pool2d
        feature_map = pool(feature_map, REGION_GRIDS[num_image_embeds])
    return feature_map.flatten(2).transpose(1, 2)


def patch_grid(config: PreTrainedConfig, num_tokens: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the patches of a picture.

    Raises:
        ValueError: if so many patches and the leading special tokens do not make up `num_tokens`.
    """
    patch = getattr(config, "patch_size", None)
    patch_height, patch_width = (patch, patch) if isinstance(patch, int) else (patch or (0, 0))[:2]
    # Swin and its like merge 2 × 2 patches between stages.
    merges = 2 ** (len(getattr(config, "depths", [0])) - 1)
    if patch_height and patch_width:
        stride = (patch_height * merges, patch_width * merges)
        # Class and distillation token, and registers.
        leading = 2 + (getattr(config, "num_register_tokens", 0) or 0)
        # A patch convolution leaves out an incomplete last patch; Swin and its like pad it.
        whole = height // stride[0], width // stride[1]
        padded = -(-height // stride[0]), -(-width // stride[1])
        for rows, columns in (whole, padded):
            if rows * columns > 0 and 0 <= num_tokens - rows * columns <= leading:
                return rows, columns
    raise ValueError(
        f"Expected a feature map or the patch tokens of a {height}×{width} picture from the image model, "
        f"found {num_tokens} tokens from a {config.model_type!r} with patch_size {patch}. "
        "Choose an image model whose last_hidden_state is a map or a grid of patches."
    )


def measure_image_hidden_size(image_config: PreTrainedConfig) -> int:
    """Return the channels of the last feature map, found by a run on the meta device: shapes, no numbers."""
    with torch.device("meta"), torch.no_grad():
        image_model = AutoModel.from_config(copy.deepcopy(image_config), dtype=torch.float32).eval()
        height, width = _built_for(image_config) or (DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE)
        picture = torch.empty(1, getattr(image_config, "num_channels", 3), height, width)
        return image_feature_map(image_model, picture).shape[1]


def build_image_model(image_config: Any) -> PreTrainedModel:
    """Build an image model for regions.

    Attention asked for the whole (`sdpa`) is left out where the image model has none, as a ResNet. The
    trained pooler of a class token is removed: regions never pass through it, so it would get no gradient.
    """
    model_class: Any = MODEL_MAPPING[type(image_config)]
    if image_config._attn_implementation == "sdpa" and not model_class._supports_sdpa:
        image_config._attn_implementation = None
    image_model = AutoModel.from_config(image_config)
    pooler = getattr(image_model, "pooler", None)
    if isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
        image_model.pooler = None
    return image_model


def _built_for(config: PreTrainedConfig) -> tuple[int, int] | None:
    size = getattr(config, "image_size", None)
    if size is None:
        return None
    return (size, size) if isinstance(size, int) else (size[0], size[1])
