"""TabBERT: processor, configuration and models. `register()` makes them known to the Auto classes."""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

from .collating_tabbert import TabBertCollator
from .configuration_tabbert import TabBertConfig
from .modeling_tabbert import TabBertForMaskedLM, TabBertMaskedLMOutput, TabBertModel, TabBertPreTrainedModel
from .modeling_tabbert_boosted import (
    TabBertBoostedForSequenceClassification,
    TabBertFusionForSequenceClassification,
)
from .modeling_tabbert_lstm import (
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)
from .processing_tabbert import TabBertProcessor


def register() -> None:
    """Make TabBERT known to the Auto classes of configurations, models and processors."""
    AutoConfig.register("tabbert", TabBertConfig, exist_ok=True)
    AutoModel.register(TabBertConfig, TabBertModel, exist_ok=True)
    AutoModelForMaskedLM.register(TabBertConfig, TabBertForMaskedLM, exist_ok=True)
    # The first is the default; a saved checkpoint names its own class in `architectures`.
    AutoModelForSequenceClassification.register(
        TabBertConfig,
        (
            TabBertLstmForSequenceClassification,
            TabBertMlpForSequenceClassification,
            TabBertPooledForSequenceClassification,
            TabBertRawLstmForSequenceClassification,
            TabBertBoostedForSequenceClassification,
            TabBertFusionForSequenceClassification,
        ),
        exist_ok=True,
    )
    AutoProcessor.register(TabBertConfig, TabBertProcessor, exist_ok=True)
    AutoFeatureExtractor.register(TabBertConfig, TabBertProcessor, exist_ok=True)


__all__ = [
    "TabBertBoostedForSequenceClassification",
    "TabBertCollator",
    "TabBertConfig",
    "TabBertForMaskedLM",
    "TabBertFusionForSequenceClassification",
    "TabBertLstmForSequenceClassification",
    "TabBertMaskedLMOutput",
    "TabBertMlpForSequenceClassification",
    "TabBertModel",
    "TabBertPooledForSequenceClassification",
    "TabBertPreTrainedModel",
    "TabBertProcessor",
    "TabBertRawLstmForSequenceClassification",
    "register",
]
