"""What `hf_mmtab.serving` must know beside a model and its processor's own files."""

from typing import Any

from ..models.mmbt.text_encoding_mmbt import special_id
from ..models.tabbert import TabBertConfig
from .arrays import reads

# Settings of a model's config that an answer depends on.
CONFIG_KEYS = ("problem_type", "thresholds", "threshold", "label_level", "seq_len", "eval_stride", "max_gap")
# Image processors whose arithmetic `hf_mmtab.serving` repeats, by the name of their class without backend.
IMAGE_PROCESSORS = ("MMBT", "ViT", "DeiT", "ConvNext", "CLIP", "Siglip", "Bit")
OTHER_NAMES = {"cls": "bos", "sep": "eos"}


def is_pretrained(config: Any) -> bool:
    """Tell whether a model guesses masked cells, and so has no labels to serve."""
    return "TabBertForMaskedLM" in (config.architectures or [])


def serving_settings(config: Any, processor: Any, trees: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what `hf_mmtab.serving` must know beside the model and the processor's own files.

    Args:
        config, processor: of the model.
        trees: that it asks, see `trees_of`.

    Raises:
        ValueError: if it cannot repeat what the processor does.
    """
    settings: dict[str, Any] = {
        "labels": None if is_pretrained(config) else [config.id2label[i] for i in range(config.num_labels)],
        "config": {name: getattr(config, name, None) for name in CONFIG_KEYS},
        "text": None,
        "image": None,
    }
    if isinstance(config, TabBertConfig):
        beside = {"trees": trees, "reads": reads(config, trees)}
        return {"family": "tabbert", "pad_token_id": processor.pad_token_id, **settings, **beside}
    tokenizer = processor.tokenizer
    settings["pad_token_id"] = 0 if tokenizer is None else tokenizer.pad_token_id
    if tokenizer is not None:
        if not tokenizer.is_fast:
            raise ValueError(
                f"Expected a tokenizer of the library tokenizers, found {type(tokenizer).__name__}, which is written "
                "in Python and so not there without transformers. Serve this model with torch."
            )
        roles: tuple[Any, ...] = ("cls", "sep")
        has = {role: any(getattr(tokenizer, f"{name}_token") for name in (role, OTHER_NAMES[role])) for role in roles}
        settings["text"] = {
            "max_length": processor.max_length,
            "leading_cls": processor.leading_cls,
            "segment_offset": processor.segment_offset,
            "pairs": getattr(config, "num_segments", 3) >= 3,
            **{f"{role}_token_id": special_id(tokenizer, role) if has[role] else None for role in roles},
        }
    if processor.image_processor is not None:
        settings["image"] = image_settings(processor.image_processor) | {
            "background": 255 if processor.transparency == "white" else None,
            "upright": processor.upright,
            "missing_image": processor.missing_image,
        }
    return {"family": "mmbt", **settings}


def image_settings(image_processor: Any) -> dict[str, Any]:
    """Return how an image processor resizes, crops and normalises, as `hf_mmtab.serving.inputs.to_pixels` reads it.

    Raises:
        ValueError: if it does something else.
    """
    name = type(image_processor).__name__.split("ImageProcessor")[0]
    given = image_processor.to_dict()
    size = dict(given.get("size") or {})
    known = name in IMAGE_PROCESSORS and given.get("do_rescale") and given.get("do_normalize")
    if not known or given.get("do_pad") or not ({"shortest_edge"} <= set(size) or {"height", "width"} <= set(size)):
        raise ValueError(
            f"Expected an image processor that resizes, crops, scales and normalises, of the kinds "
            f"{', '.join(IMAGE_PROCESSORS)}, found {type(image_processor).__name__}. Serve this model with torch, or "
            "train with `preset: legacy`."
        )
    crop = [given["crop_size"][side] for side in ("height", "width")] if given.get("do_center_crop") else None
    resize: Any = None
    if given.get("do_resize"):
        resize = size.get("shortest_edge") or [size["height"], size["width"]]
        if name == "ConvNext":
            edge = size["shortest_edge"]
            crop = [edge, edge] if edge < 384 else None
            resize = int(edge / given["crop_pct"]) if edge < 384 else [edge, edge]
    resample, backend = int(given.get("resample") or 2), image_processor.backend
    edge = resize if isinstance(resize, int) else min(resize or [0])
    if (crop and edge < max(crop)) or (backend == "torchvision" and resample not in (2, 3)):
        raise ValueError(
            f"Expected bilinear or bicubic resizing and a crop inside the picture, found resample {resample}, size "
            f"{resize} and crop {crop}. Serve this model with torch."
        )
    return {
        "resize": resize,
        "resample": resample,
        "backend": backend,
        "crop": crop,
        "rounded_crop": name == "MMBT",
        "scale": given["rescale_factor"],
        "mean": list(given["image_mean"]),
        "std": list(given["image_std"]),
    }
