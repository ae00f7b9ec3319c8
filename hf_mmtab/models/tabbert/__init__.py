"""TabBERT: configuration and models; importing this package makes the Auto classes know them."""

from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from .configuration_tabbert import TabBertConfig
from .modeling_tabbert import TabBertForMaskedLM, TabBertMaskedLMOutput, TabBertModel, TabBertPreTrainedModel

AutoConfig.register("tabbert", TabBertConfig, exist_ok=True)
AutoModel.register(TabBertConfig, TabBertModel, exist_ok=True)
AutoModelForMaskedLM.register(TabBertConfig, TabBertForMaskedLM, exist_ok=True)

__all__ = [
    "TabBertConfig",
    "TabBertForMaskedLM",
    "TabBertMaskedLMOutput",
    "TabBertModel",
    "TabBertPreTrainedModel",
]
