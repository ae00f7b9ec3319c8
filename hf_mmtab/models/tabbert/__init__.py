"""TabBERT and TabGPT: processor, configurations and models. `register()` makes them known to the Auto classes."""

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

from .collating_tabbert import TabBertCollator
from .configuration_tabbert import TabBertConfig
from .configuration_tabgpt import TabGPT2Config
from .modeling_tabbert import TabBertForMaskedLM, TabBertMaskedLMOutput, TabBertModel, TabBertPreTrainedModel
from .modeling_tabbert_boosted import TabBertBoostedForSequenceClassification, TabBertFusionForSequenceClassification
from .modeling_tabbert_lstm import (
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)
from .modeling_tabgpt import TabGPT2LMHeadModel
from .processing_tabbert import TabBertProcessor


def register() -> None:
    """Make TabBERT and TabGPT known to the Auto classes of configurations, models and processors."""
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
    AutoConfig.register("tabgpt2", TabGPT2Config, exist_ok=True)
    AutoModelForCausalLM.register(TabGPT2Config, TabGPT2LMHeadModel, exist_ok=True)
    AutoProcessor.register(TabGPT2Config, TabBertProcessor, exist_ok=True)
    AutoFeatureExtractor.register(TabGPT2Config, TabBertProcessor, exist_ok=True)


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
    "TabGPT2Config",
    "TabGPT2LMHeadModel",
    "register",
]
