"""What the classifier reads of the text model: the pooled first position, or the mean of its states."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tiny_backbones import TEXT_CONFIGS, tiny_batch, tiny_mmbt
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, BertConfig

from hf_mmtab.models.mmbt import MMBTBaselineConfig, MMBTBaselineForClassification, MMBTConfig


@pytest.mark.parametrize("text", TEXT_CONFIGS)
def test_mean_pooling_is_the_mean_of_the_states_that_are_not_padding(text, tmp_path):
    model, batch = tiny_mmbt(text, text_pooling="mean"), tiny_batch()
    batch["attention_mask"][0, 5:] = 0
    with torch.no_grad():
        output = model.model(**batch)
    states, regions = output.last_hidden_state, model.config.num_image_embeds + 2
    assert_close(output.pooler_output[0], states[0, : regions + 5].mean(dim=0))
    assert_close(output.pooler_output[1], states[1].mean(dim=0))
    assert not any(".pooler." in name for name in model.state_dict())
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        assert_close(loaded(**batch).logits, model(**batch).logits)


def test_every_weight_of_a_mean_pooling_model_trains():
    """A pooler that nothing reads would stop training on several processes."""
    model, batch = tiny_mmbt(text_pooling="mean"), tiny_batch()
    model.train()(**batch, labels=torch.tensor([0, 1])).loss.backward()
    assert [name for name, one in model.named_parameters() if one.grad is None] == []


def test_the_text_baseline_pools_by_the_mean_too():
    text = TEXT_CONFIGS["bert"]().to_dict()
    model = MMBTBaselineForClassification(MMBTBaselineConfig(text_config=text, text_pooling="mean")).eval()
    batch = tiny_batch()
    batch["attention_mask"][0, 3:] = 0
    batch["attention_mask"][1] = 0  # no text
    with torch.no_grad():
        pooled = model.get_text_features(batch["input_ids"], batch["attention_mask"])
        states = model.text_model(batch["input_ids"][:1, :3]).last_hidden_state
    assert_close(pooled[0], states[0].mean(dim=0))
    assert pooled[1].abs().max() == 0


def test_a_checkpoint_from_before_reads_the_first_position():
    before = MMBTConfig(text_config=BertConfig().to_dict()).to_dict()
    del before["text_pooling"]
    assert MMBTConfig.from_dict(before).text_pooling == "cls"
    with pytest.raises(StrictDataclassError, match="expected one of \\('cls', 'mean'\\), got max"):
        tiny_mmbt(text_pooling="max")
