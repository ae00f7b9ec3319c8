"""Settings that cannot work are refused where they are set."""

import pytest

from hf_mmtab.models.tabbert import TabBertConfig

COLUMNS = {"fields": ["city", "amount"], "field_ranges": [[4, 9], [9, 19]], "vocab_size": 19}


def test_paper_preset_has_the_sizes_of_the_paper():
    fields = [f"f{i}" for i in range(12)]
    ranges = [[4 + i, 5 + i] for i in range(12)]
    config = TabBertConfig.paper(fields, ranges, vocab_size=16)
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (768, 12, 12)
    assert (config.decoder_hidden_size, config.cell_states, config.tie_word_embeddings) == (768, "slice", False)
    flat = TabBertConfig.paper(fields, ranges, vocab_size=16, flatten=True, field_hidden_size=768)
    assert (flat.hidden_size, flat.num_attention_heads, flat.tie_word_embeddings) == (768, 12, True)
    assert TabBertConfig.paper(fields, ranges, vocab_size=16, num_hidden_layers=2).num_hidden_layers == 2


def test_round_trip_through_json(tmp_path):
    config = TabBertConfig(**COLUMNS, numeric_ranges={"amount": [11, 19]}, class_weights=[1.0, 5.0], threshold=0.3)
    config.save_pretrained(tmp_path)
    assert TabBertConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": ["city"]}, "Expected one id range per column"),
        ({"fields": ["city", "city"]}, "Expected different names in fields"),
        ({"field_ranges": [[4, 9], [9, 20]]}, r"column 'amount' to be \[start, end\) within 0 and vocab_size=19"),
        ({"field_ranges": [[4, 10], [9, 19]]}, "field_ranges that do not overlap"),
        ({"numeric_ranges": {"zip": [4, 9]}}, "numeric_ranges of known columns"),
        ({"numeric_ranges": {"city": [4, 12]}}, r"column 'city' inside its ids \[4, 9\], found \[4, 12\]"),
        ({"neighbor_smoothing": 1.0}, r"neighbor_smoothing must be in \[0, 1\)"),
        ({"neighbor_smoothing": 0.1}, "neighbor_smoothing needs numeric_ranges"),
        ({"hidden_size": 10}, "hidden_size must be a multiple of num_attention_heads"),
        ({"field_hidden_size": 10}, "field_hidden_size must be a multiple of field_num_heads"),
        ({"cell_states": "slice"}, "columns × field_hidden_size = 128, got 256. Use cell_states='linear'"),
        ({"head_hidden_size": 256}, "tie_word_embeddings needs head_hidden_size = width of the cell embeddings"),
        ({"pooling": "max"}, r"Field 'pooling' expected one of \('last', 'mean'\), got max"),
        (
            {"adaptive_softmax_threshold": 9, "field_hidden_size": 8},
            "adaptive softmax would have no width: head_hidden_size=8",
        ),
        ({"mlm_loss": "vocab", "adaptive_softmax_threshold": 9}, "need mlm_loss='field'"),
        ({"classification_loss": "rmse"}, "does not fit problem_type=None"),
        ({"class_weights": [1.0]}, r"one of class_weights per label \(2\), found 1"),
        ({"classification_loss": "rmse_one_hot", "class_weights": [1.0, 2.0]}, "class_weights do not apply"),
        ({"problem_type": "regression", "class_weights": [1.0, 2.0]}, "class_weights do not apply"),
        ({"next_row": True, "flatten": True}, "next_row needs rows as units: it does not go with flatten=True"),
        ({"row_inputs": "both"}, "row_inputs='both' needs .* found next_row=False. Pretrain with next_row: true"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(Exception, match=message):
        TabBertConfig(**{**COLUMNS, **changes})
