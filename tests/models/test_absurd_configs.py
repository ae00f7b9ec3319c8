"""A configuration that claims more than any model has is refused before anything is built."""

import json

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification

from hf_mmtab import MMBTBaselineConfig, MMBTConfig, TabBertConfig

CLAIMS = [
    (MMBTConfig, {"text_config": {"model_type": "bert", "num_hidden_layers": 10**7}}, "num_hidden_layers"),
    (MMBTConfig, {"image_config": {"model_type": "resnet", "depths": [3, 10**7, 6, 3]}}, "depths"),
    (MMBTConfig, {"num_image_embeds": 10**6}, "num_image_embeds"),
    (MMBTBaselineConfig, {"text_config": {"model_type": "bert", "num_hidden_layers": 10**7}}, "num_hidden_layers"),
    (TabBertConfig, {"num_hidden_layers": 10**7}, "num_hidden_layers"),
    (TabBertConfig, {"lstm_num_layers": 10**7}, "lstm_num_layers"),
    (TabBertConfig, {"field_num_layers": 10**7}, "field_num_layers"),
]
CLAIMS += [(kind, {"num_labels": 10**9}, "num_labels") for kind in (MMBTConfig, MMBTBaselineConfig, TabBertConfig)]


@pytest.mark.parametrize(("config_class", "claim", "named"), CLAIMS)
def test_a_claim_of_absurd_depth_is_refused(config_class, claim, named, tmp_path):
    with pytest.raises(Exception, match=named):
        config_class(**claim)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": config_class.model_type, **claim}))
    for load in (AutoConfig, AutoModelForSequenceClassification):
        with pytest.raises(Exception, match=named):
            load.from_pretrained(tmp_path)
