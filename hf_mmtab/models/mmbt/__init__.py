"""MMBT and its baselines. `register()` makes them known to the Auto classes."""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

from .collating_mmbt import MMBTCollator
from .configuration_mmbt import MMBTConfig
from .image_processing_mmbt import MMBTImageProcessor
from .modeling_mmbt import MMBTForClassification, MMBTModel
from .processing_mmbt import MMBTProcessor


def register() -> None:
    """Make MMBT known to `AutoConfig`, `AutoModel`, `AutoModelForSequenceClassification` and `AutoProcessor`."""
    AutoConfig.register("mmbt", MMBTConfig, exist_ok=True)
    AutoModel.register(MMBTConfig, MMBTModel, exist_ok=True)
    AutoModelForSequenceClassification.register(MMBTConfig, MMBTForClassification, exist_ok=True)
    AutoProcessor.register(MMBTConfig, MMBTProcessor, exist_ok=True)
    # One class under both names: asked for either backend, the Auto class finds it without a warning.
    image_processors = {"pil": MMBTImageProcessor, "torchvision": MMBTImageProcessor}
    AutoImageProcessor.register(MMBTConfig, image_processor_classes=image_processors, exist_ok=True)


__all__ = [
    "MMBTCollator",
    "MMBTConfig",
    "MMBTForClassification",
    "MMBTImageProcessor",
    "MMBTModel",
    "MMBTProcessor",
    "register",
]
