"""MMBT and its baselines. `register()` makes them known to the Auto classes."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSequenceClassification, AutoProcessor

from .collating_mmbt import MMBTCollator
from .configuration_baselines import MMBTBaselineConfig
from .configuration_ensemble import MMBTEnsembleConfig
from .configuration_mmbt import MMBTConfig
from .image_processing_mmbt import MMBTImageProcessor
from .modeling_baselines import MMBTBaselineForClassification
from .modeling_ensemble import MMBTEnsembleForClassification
from .modeling_mmbt import MMBTForClassification, MMBTModel
from .processing_mmbt import MMBTProcessor


def register() -> None:
    """Make MMBT, its baselines and ensembles known to the Auto classes of configurations, models and processors."""
    AutoConfig.register("mmbt", MMBTConfig, exist_ok=True)
    AutoModel.register(MMBTConfig, MMBTModel, exist_ok=True)
    AutoModelForSequenceClassification.register(MMBTConfig, MMBTForClassification, exist_ok=True)
    AutoConfig.register("mmbt_baseline", MMBTBaselineConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(MMBTBaselineConfig, MMBTBaselineForClassification, exist_ok=True)
    AutoConfig.register("mmbt_ensemble", MMBTEnsembleConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(MMBTEnsembleConfig, MMBTEnsembleForClassification, exist_ok=True)
    # One class under both names: asked for either backend, the Auto class finds it without a warning.
    image_processors: dict[str, type] = {"pil": MMBTImageProcessor, "torchvision": MMBTImageProcessor}
    for config_class in (MMBTConfig, MMBTBaselineConfig, MMBTEnsembleConfig):
        AutoProcessor.register(config_class, MMBTProcessor, exist_ok=True)
        AutoImageProcessor.register(config_class, image_processor_classes=image_processors, exist_ok=True)
