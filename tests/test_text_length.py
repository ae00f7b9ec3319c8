"""`max_length: auto`: from the training texts, within the model's positions."""

from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from torch import nn
from transformers import BertTokenizer

from hf_mmtab.models.mmbt import MMBTProcessor
from hf_mmtab.tasks.fitted_lengths import choose_max_length

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]


def processor_of(limit: int = 512, **options) -> MMBTProcessor:
    return MMBTProcessor(None, BertTokenizer(vocab={w: i for i, w in enumerate(WORDS)}), limit, **options)


def model_of(positions: int, start: int = 0):
    text = nn.Module()
    text.position_embeddings = nn.Embedding(positions, 2)
    return SimpleNamespace(text_model=text, config=SimpleNamespace(text_position_start=start))


def rows_of(*lengths: int, column: str = "text") -> datasets.Dataset:
    return datasets.Dataset.from_dict({column: [" ".join(["a"] * length) for length in lengths]})


@pytest.mark.parametrize(
    ("lengths", "positions", "start", "chosen", "cut"),
    [
        ([3] * 100, 512, 0, 16, 0.0),  # at least 16
        (list(range(1, 101)), 512, 0, 104, 0.0),  # 99 words and one place, up to a multiple of 8
        ([5] * 990 + [200] * 10, 512, 0, 16, 0.01),  # 1 % may be cut
        ([5] * 900 + [200] * 100, 512, 0, 208, 0.0),  # 10 % may not
        ([900] * 10, 512, 1, 511, 1.0),  # one position is not for words
        ([900] * 10, 1024, 0, 512, 1.0),  # no more than the tokenizer takes
    ],
)
def test_the_length_that_99_of_100_texts_need(lengths, positions, start, chosen, cut):
    found = choose_max_length(processor_of(), rows_of(*lengths), model_of(positions, start))
    assert (found.max_length, found.cut) == (chosen, pytest.approx(cut))
    told = f"{cut:.1%} of the training texts are longer" if cut else "no text is longer"
    assert f"up to {chosen} word pieces" in str(found) and f"; {told}" in str(found)
    assert "Set max_length" in str(found)


def test_a_length_that_is_needed_cuts_nothing_and_one_less_does():
    pairs = datasets.Dataset.from_dict({"sentence1": ["a a a", "a"], "sentence2": ["a a", "a a a a a"]})
    for options in ({"leading_cls": True}, {}):
        for rows in (rows_of(7, 0, 2), pairs):
            lengths = processor_of(**options).text_lengths(rows)
            for row, length in zip(rows, lengths, strict=True):
                whole, enough, less = (
                    len(processor_of(max(4, limit), **options).encode_row(row)["input_ids"])
                    for limit in (512, int(length), int(length) - 1)
                )
                assert enough == whole and (less < whole or length <= 4)


def test_a_run_that_goes_on_keeps_its_length():
    found = choose_max_length(processor_of(), rows_of(*range(1, 101)), model_of(512), before=64)
    assert found.max_length == 64 and found.cut == pytest.approx(0.37)


def test_a_model_without_text_has_no_length():
    class NoText:
        max_length, tokenizer = 512, None
        text_lengths = MMBTProcessor.text_lengths

    assert choose_max_length(NoText(), rows_of(1, 2), SimpleNamespace(text_model=None)) is None
    assert np.isfinite(processor_of().text_lengths(rows_of(1, 2))).all()
