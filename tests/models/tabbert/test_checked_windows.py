"""TabBERT's models refuse inputs of other windows or rows than those that they read: torch would repeat them."""

import re

import pytest
import torch

from hf_mmtab.models.tabbert import (
    TabBertBoostedForSequenceClassification,
    TabBertForMaskedLM,
    TabBertFusionForSequenceClassification,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertModel,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
    TabGPT2Config,
    TabGPT2LMHeadModel,
)

COLUMNS = {"fields": ["city", "amount", "shop"], "field_ranges": [[4, 9], [9, 19], [19, 39]], "vocab_size": 39}
HEADS = [
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
    TabBertFusionForSequenceClassification,
]
MASKS = [(1, 5), (4, 1), (1, 1), (4, 4), (4, 6), (5,), (4, 5, 1)]


def windows():
    return torch.tensor([[[4, 9, 19]] * 5] * 4)  # (4, 5, 3)


def tabgpt():
    return TabGPT2LMHeadModel(TabGPT2Config(**COLUMNS, n_positions=21, n_embd=8, n_layer=1, n_head=2)).eval()


def refused(name, expected, found):
    expected = re.escape(f"Expected {name} of shape {expected}, ")
    return pytest.raises(ValueError, match=f"{expected}.*{re.escape(found)}")


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("kind", [TabBertModel, TabBertForMaskedLM, *HEADS])
def test_a_mask_of_another_shape_is_refused_with_both_shapes(kind, flatten, small_config):
    model = kind(small_config(flatten=flatten)).eval()
    model(windows(), attention_mask=torch.ones(4, 5).long())
    for shape in MASKS:
        with refused("attention_mask", "(4, 5)", f"found {shape}"):
            model(windows(), attention_mask=torch.ones(shape).long())


def test_a_mask_of_another_shape_is_refused_by_tabgpt_for_rows_and_sequences():
    model = tabgpt()
    model(windows(), attention_mask=torch.ones(4, 5).long())
    for shape in MASKS:
        with refused("attention_mask", "(4, 5)", f"found {shape}"):
            model(windows(), attention_mask=torch.ones(shape).long())
    sequences = windows().flatten(1)
    model(sequences, attention_mask=torch.ones(4, 15).long())
    for shape in [(1, 15), (4, 1)]:
        with refused("attention_mask", "(4, 15)", f"found {shape}"):
            model(sequences, attention_mask=torch.ones(shape).long())


@pytest.mark.parametrize("shape", [(1, 5, 3), (4, 1, 3), (4, 5, 1), (4, 5), (2, 5, 3)])
def test_labels_of_other_cells_are_refused(shape, small_config):
    for model in (TabBertForMaskedLM(small_config()).eval(), tabgpt()):
        with refused("labels", "(4, 5, 3)", f"found {shape}"):
            model(windows(), labels=torch.full(shape, -100))


@pytest.mark.parametrize("name", ["token_type_ids", "position_ids"])
def test_segments_and_positions_are_given_for_every_window(name, small_config):
    for flatten, steps in ((False, 5), (True, 15)):
        model = TabBertModel(small_config(flatten=flatten)).eval()
        model(windows(), **{name: torch.zeros(4, steps).long()})
        with refused(name, f"(4, {steps})", f"found (1, {steps})"):
            model(windows(), **{name: torch.zeros(1, steps).long()})


def test_times_and_statistics_are_given_for_every_row(small_config):
    model = TabBertLstmForSequenceClassification(small_config(next_row=True, row_inputs="windowed_surprise")).eval()
    model(windows(), times=torch.zeros(4, 5).long())
    for shape in [(1, 5), (4, 1), (4,)]:
        for call in (model, model.get_row_states):
            with refused("times", "(4, 5)", f"found {shape}"):
                call(windows(), times=torch.zeros(shape).long())
    reads = small_config(row_inputs="statistics", statistics=["a", "b"])
    for kind in (TabBertLstmForSequenceClassification, TabBertBoostedForSequenceClassification):
        for shape in [(1, 5, 2), (4, 1, 2), (5, 2), (4, 5, 1)]:
            with refused("statistics", "(4, 5, 2)", f"found {shape}"):
                kind(reads)(windows(), statistics=torch.zeros(shape))


def test_states_of_rows_need_a_mask_of_their_own(small_config):
    model = TabBertLstmForSequenceClassification(small_config()).eval()
    states = model.get_row_states(windows())
    assert model(row_states=states, attention_mask=torch.ones(4, 5).long()).logits.shape == (4, 2)
    with refused("attention_mask", "(4, 5)", "found (1, 5)"):
        model(row_states=states, attention_mask=torch.ones(1, 5).long())
    with pytest.raises(ValueError, match=r"Expected row_states of shape \(batch, rows, width\), found \(4, 16\)"):
        model(row_states=states[:, 0])


def test_embedded_cells_have_four_axes(small_config):
    model = TabBertModel(small_config()).eval()
    assert model(inputs_embeds=torch.zeros(4, 5, 3, 8)).last_hidden_state.shape == (4, 5, 16)
    for shape in [(4, 5, 8), (4, 5, 2, 8)]:
        with pytest.raises(ValueError, match=r"Expected inputs_embeds of shape \(batch, rows, 3, cell_hidden\)"):
            model(inputs_embeds=torch.zeros(shape))
    with refused("attention_mask", "(4, 5)", "found (1, 5)"):
        model(inputs_embeds=torch.zeros(4, 5, 3, 8), attention_mask=torch.ones(1, 5))


@pytest.mark.parametrize("kind", [TabBertModel, TabBertForMaskedLM, *HEADS])
def test_keywords_that_nothing_reads_are_refused(kind, small_config):
    model = kind(small_config()).eval()
    model(windows(), output_hidden_states=True, return_dict=True)
    for name, near in {"attention_masks": "attention_mask", "inputs_embed": "inputs_embeds", "foo": ""}.items():
        with pytest.raises(TypeError, match=f"keywords that the model reads, found {name}.{near and ' Did you mean '}"):
            model(windows(), **{name: None})


@pytest.mark.parametrize("kind", [TabBertModel, TabBertForMaskedLM, *HEADS])
def test_ids_that_are_none_are_refused(kind, small_config):
    model = kind(small_config()).eval()
    size = model.config.vocab_size
    for ids, message in (
        (windows().float(), "Expected input_ids of int64 or int32, found torch.float32"),
        (windows().tolist(), "Expected input_ids as a torch.Tensor, found a list"),
        (windows() - 5, f"Expected ids from 0 to {size - 1}, found -1 to 14"),
        (windows() + size, f"Expected ids from 0 to {size - 1}, found {size + 4} to {size + 19}"),
        (windows()[:0], r"Expected at least one window of one row, found input_ids of shape \(0, 5, 3\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            model(ids)
    assert model(windows().int())
