"""Values of configurations from Python: misspelt keywords, names that stand twice, numbers out of their bounds."""

import re

import pytest

from hf_mmtab import MMBTBaselineConfig, MMBTConfig, TabBertConfig, TabGPT2Config

COLUMNS = {"fields": ["a"], "field_ranges": [[4, 9]], "vocab_size": 9}


def table(**values) -> TabBertConfig:
    return TabBertConfig(**COLUMNS, **values)


@pytest.mark.parametrize(
    ("build", "misspelt", "meant"),
    [
        (MMBTConfig, "num_image_embed", "num_image_embeds"),
        (MMBTBaselineConfig, "hidden_dropouts", "hidden_dropout"),
        (table, "hiden_size", "hidden_size"),
        (table, "output_hidden_state", "output_hidden_states"),
        (TabGPT2Config, "n_layers", "n_layer"),
    ],
)
def test_a_misspelt_keyword_is_told_with_the_nearest_name(build, misspelt, meant, caplog):
    with pytest.raises(TypeError, match=f"reads, found {misspelt}. Did you mean {meant}?"):
        build(**{misspelt: 1})
    saved = build(**{misspelt: 1}, transformers_version="5.0.0")  # as from a config.json
    assert getattr(saved, misspelt) == 1 and f"found {misspelt}. Did you mean {meant}? Nothing reads it" in caplog.text


def test_keywords_of_transformers_and_notes_are_taken(caplog):
    config = table(num_labels=3, output_attentions=True, attn_implementation="eager", dtype="float32", note="mine")
    assert config.note == "mine" and type(config).from_dict(config.to_dict()).note == "mine"
    assert "Did you mean" not in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"statistics": ["a", "b", "a"]}, "Expected each name once in statistics, found 'a' again."),
        ({"row_inputs": ["states", "states"]}, "Expected each name once in row_inputs, found 'states' again."),
        ({"row_inputs": ["states", "both"], "next_row": True}, "where both stands for states and surprise."),
        ({"statistics": ["a"], "network_statistics": ["z"]}, "Expected network_statistics among statistics, found z."),
        ({"statistics": ["a"], "statistics_codes": 3}, "count some of the 1 statistics, found 3."),
        ({"threshold": 7.0}, "Expected threshold to be between 0 and 1, found 7.0."),
        ({"threshold": float("nan")}, "Expected threshold to be between 0 and 1, found nan."),
        ({"lstm_dropout": 3}, "Expected lstm_dropout to be between 0 and 1, found 3."),
        ({"hidden_dropout_prob": -1}, "Expected hidden_dropout_prob to be between 0 and 1, found -1."),
        ({"seq_len": 0}, "Expected seq_len to be at least 1, found 0."),
        ({"eval_stride": -1}, "Expected eval_stride to be at least 1, found -1."),
        ({"max_gap": -1}, "Expected max_gap to be at least 0, found -1."),
        ({"class_weights": [-1.0, 2.0]}, "Expected class_weights to be at least 0, found [-1.0, 2.0]."),
        ({"layer_norm_eps": -1.0}, "Expected layer_norm_eps to be at least 0, found -1.0."),
        (
            {"problem_type": "regression", "num_labels": 1, "target_std": [0.0]},
            "Expected target_std to be at least 1e-30, found [0.0].",
        ),
    ],
)
def test_values_out_of_their_bounds_are_refused(values, message):
    with pytest.raises(Exception, match=re.escape(message)):
        table(**values)


@pytest.mark.parametrize("thresholds", [[0.5, float("nan")], [5.0, 0.1], [-0.1, 0.5]], ids=str)
def test_thresholds_of_labels_are_probabilities(thresholds):
    with pytest.raises(Exception, match=re.escape(f"Expected thresholds to be between 0 and 1, found {thresholds}.")):
        MMBTConfig(num_labels=2, thresholds=thresholds)
