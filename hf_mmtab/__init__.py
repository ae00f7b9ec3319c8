"""MMBT and TabBERT, native to Hugging Face Transformers.

Importing the package makes the Auto classes and `transformers.pipeline` know both.
"""

from . import pipelines
from .models import mmbt, tabbert
from .models.mmbt import (
    MMBTBaselineConfig,
    MMBTBaselineForClassification,
    MMBTCollator,
    MMBTConfig,
    MMBTForClassification,
    MMBTImageProcessor,
    MMBTModel,
    MMBTProcessor,
)
from .models.tabbert import TabBertConfig, TabBertForMaskedLM, TabBertModel, TabBertProcessor
from .training import FreezeSchedule, MMTabTrainer, MMTabTrainingArguments

__version__ = "0.1.0"

__all__ = [
    "FreezeSchedule",
    "MMBTBaselineConfig",
    "MMBTBaselineForClassification",
    "MMBTCollator",
    "MMBTConfig",
    "MMBTForClassification",
    "MMBTImageProcessor",
    "MMBTModel",
    "MMBTProcessor",
    "MMTabTrainer",
    "MMTabTrainingArguments",
    "TabBertConfig",
    "TabBertForMaskedLM",
    "TabBertModel",
    "TabBertProcessor",
]

mmbt.register()
tabbert.register()
pipelines.register()
