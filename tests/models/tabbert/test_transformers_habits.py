"""All TabBERT models take what any model of transformers takes: keywords of `forward`, tuples, attention by name."""

import pytest
import torch
from transformers.models.bert import modeling_bert

from hf_mmtab.models.tabbert import (
    TabBertForMaskedLM,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertModel,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
    modeling_tabbert,
)

ENCODERS = [TabBertModel, TabBertForMaskedLM]
HEADS = [
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
]
RAW = [TabBertRawLstmForSequenceClassification]


@pytest.fixture
def ids(small_batch):
    return small_batch["input_ids"]


@pytest.mark.parametrize("model_class", [*ENCODERS, *HEADS, *RAW])
def test_keywords_of_other_models_change_nothing(model_class, small_config, ids):
    model = model_class(small_config()).eval()
    plain, asked = model(ids), model(ids, use_cache=False, num_items_in_batch=torch.tensor(2))

    for one, other in zip(plain.to_tuple(), asked.to_tuple(), strict=True):
        assert torch.equal(torch.cat([t.flatten() for t in one]), torch.cat([t.flatten() for t in other]))


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("model_class", [*ENCODERS, *HEADS])
def test_states_and_attentions_come_out_of_every_model(model_class, flatten, small_config, ids):
    model = model_class(small_config(flatten=flatten, attn_implementation="eager")).eval()
    outputs = model(ids, output_hidden_states=True, output_attentions=True)
    length = 15 if flatten else 5

    assert [tuple(one.shape) for one in outputs.hidden_states] == [(2, length, 16)] * 3
    assert [tuple(one.shape) for one in outputs.attentions] == [(2, 2, length, length)] * 2
    assert model(ids).hidden_states is None


@pytest.mark.parametrize("model_class", [*ENCODERS, *HEADS])
def test_switches_of_the_config_act_whenever_they_are_set(model_class, small_config, ids):
    early = model_class(small_config(attn_implementation="eager", output_attentions=True)).eval()
    late = model_class(small_config(attn_implementation="eager")).eval()
    assert late(ids).attentions is None and late(ids).hidden_states is None
    late.config.output_attentions = late.config.output_hidden_states = True
    assert len(early(ids).attentions) == len(late(ids).attentions) == 2 and len(late(ids).hidden_states) == 3
    assert late(ids, output_attentions=False, output_hidden_states=False).attentions is None


@pytest.mark.parametrize("model_class", [*ENCODERS, *HEADS, *RAW])
def test_input_embeddings_are_those_of_the_cells(model_class, small_config, ids):
    model = model_class(small_config()).eval()
    assert model.get_input_embeddings().weight.shape == (39, 8)
    model.set_input_embeddings(torch.nn.Embedding(39, 8))
    assert model.get_input_embeddings() is next(one for one in model.modules() if type(one) is torch.nn.Embedding)


@pytest.mark.parametrize("model_class", [*ENCODERS, *HEADS, *RAW])
def test_tuples_are_given_where_config_or_call_asks(model_class, small_config, ids):
    by_config = model_class(small_config(return_dict=False)).eval()

    assert type(by_config(ids)) is tuple
    assert type(by_config(ids, return_dict=True)) is not tuple
    assert type(model_class(small_config()).eval()(ids, return_dict=False)) is tuple


@pytest.mark.parametrize("when", ["in the config", "afterwards"])
def test_the_attention_over_fields_is_the_one_that_the_config_names(when, small_config, ids, monkeypatch):
    torch.manual_seed(0)
    model = TabBertModel(small_config()).eval()
    expected = model(ids).last_hidden_state
    if when == "in the config":
        eager = TabBertModel(small_config(attn_implementation="eager")).eval()
        eager.load_state_dict(model.state_dict())
        model = eager
    else:
        model.set_attn_implementation("eager")
    shapes = []

    def counted(module, query, *others, **named):
        shapes.append(tuple(query.shape))
        return modeling_bert.eager_attention_forward(module, query, *others, **named)

    monkeypatch.setattr(modeling_tabbert, "eager_attention_forward", counted)
    torch.testing.assert_close(model(ids).last_hidden_state, expected)
    assert shapes == [(10, 2, 3, 4)]  # rows, heads, fields, width of a head
