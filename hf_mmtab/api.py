"""What `import hf_mmtab` offers; importing this registers both families with transformers."""

from . import pipelines
from .data.card_transactions import CardTransactions
from .data.image_text import ImageText
from .data.original_tasks import MMIMDB, VSNLI, Food101
from .data.prsa import PRSA
from .data.table import Table
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
from .models.tabbert import (
    TabBertBoostedForSequenceClassification,
    TabBertCollator,
    TabBertConfig,
    TabBertForMaskedLM,
    TabBertFusionForSequenceClassification,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertModel,
    TabBertPooledForSequenceClassification,
    TabBertProcessor,
    TabBertRawLstmForSequenceClassification,
)
from .training import FreezeSchedule, MMTabTrainer, MMTabTrainingArguments

__all__ = [
    "MMIMDB",
    "PRSA",
    "VSNLI",
    "CardTransactions",
    "Food101",
    "FreezeSchedule",
    "ImageText",
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
    "TabBertBoostedForSequenceClassification",
    "TabBertCollator",
    "TabBertConfig",
    "TabBertForMaskedLM",
    "TabBertFusionForSequenceClassification",
    "TabBertLstmForSequenceClassification",
    "TabBertMlpForSequenceClassification",
    "TabBertModel",
    "TabBertPooledForSequenceClassification",
    "TabBertProcessor",
    "TabBertRawLstmForSequenceClassification",
    "Table",
]

mmbt.register()
tabbert.register()
pipelines.register()
