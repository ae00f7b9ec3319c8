"""TabBERT: configuration and models; importing this package makes the Auto classes know them."""

from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from .configuration_tabbert import TabBertConfig
from .modeling_tabbert import TabBertForMaskedLM, TabBertMaskedLMOutput, TabBertModel, TabBertPreTrainedModel
from .modeling_tabbert_lstm import (
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)

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
    ),
    exist_ok=True,
)

__all__ = [
    "TabBertConfig",
    "TabBertForMaskedLM",
    "TabBertLstmForSequenceClassification",
    "TabBertMaskedLMOutput",
    "TabBertMlpForSequenceClassification",
    "TabBertModel",
    "TabBertPooledForSequenceClassification",
    "TabBertPreTrainedModel",
    "TabBertRawLstmForSequenceClassification",
]
