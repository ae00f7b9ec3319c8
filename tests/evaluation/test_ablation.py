"""Modality ablation: what a blanked or shuffled input looks like, and what the table says."""

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_mmtab.evaluation.ablation import AblationRow, ablate, ablation_table, other_rows


@pytest.fixture
def listed():
    rows = [{"image": f"{i}.png", "text": f"text {i}", "amount": float(i), "label": i % 2} for i in range(7)]
    return datasets.Dataset.from_list(rows)


@pytest.fixture
def table():
    pictures = [Image.new("RGB", (2, 2), (30 * i, 0, 0)) for i in range(5)]
    sentences = {"sentence1": list("abcde"), "sentence2": list("ABCDE")}
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    return datasets.Dataset.from_dict({"image": pictures, **sentences, "label": [0, 1, 0, 1, 0]}, features=features)


def red(picture) -> int:
    return picture.getpixel((0, 0))[0]


@pytest.mark.parametrize("num_rows", [2, 3, 10, 1001])
def test_no_row_keeps_its_own_and_every_row_is_used_once(num_rows):
    donors = other_rows(num_rows, seed=3)
    assert sorted(donors) == list(range(num_rows))
    assert not (donors == np.arange(num_rows)).any()


def test_shuffling_is_seeded():
    assert (other_rows(50, 1) == other_rows(50, 1)).all()
    assert (other_rows(50, 1) != other_rows(50, 2)).any()


def test_blank_text_is_empty_and_blank_anything_else_is_missing(listed):
    rows = ablate(listed, ["text", "amount"])
    assert rows[2] == {"image": "2.png", "text": "", "amount": None, "label": 0}
    assert listed[2]["text"] == "text 2"


def test_shuffled_columns_come_from_one_other_row_and_the_rest_stays(listed):
    rows = ablate(listed, ["text", "amount"], how="shuffle", seed=4)
    for i, row in enumerate(rows):
        assert (row["image"], row["label"]) == (f"{i}.png", i % 2)
        assert row["text"] == f"text {row['amount']:.0f}" != f"text {i}"
    assert sorted(row["amount"] for row in rows) == list(range(7))


def test_a_dataset_stays_a_dataset_with_its_features_and_another_fingerprint(table):
    for how in ("blank", "shuffle"):
        rows = ablate(table, ["image"], how=how)
        assert rows.features == table.features
        assert rows.column_names == table.column_names
        assert rows["sentence1"] == table["sentence1"]
        assert rows._fingerprint != table._fingerprint
    assert ablate(table, ["image"])[0]["image"] is None


def test_pictures_and_sentence_pairs_of_a_dataset_are_shuffled_together(table):
    rows = ablate(table, ["image", "sentence1", "sentence2"], how="shuffle", seed=1)
    for i, row in enumerate(rows):
        donor = "abcde".index(row["sentence1"])
        assert donor != i
        assert row["sentence2"] == row["sentence1"].upper()
        assert red(row["image"]) == 30 * donor
        assert row["label"] == table[i]["label"]


def test_blank_sentences_of_a_dataset_are_empty_text(table):
    rows = ablate(table, ["sentence1", "sentence2"])
    assert list(rows["sentence1"]) == [""] * 5
    assert red(rows[3]["image"]) == 90


def test_a_selected_dataset_can_be_ablated(table):
    rows = ablate(table.select([4, 2, 0]), ["sentence1"], how="shuffle")
    assert list(rows["sentence2"]) == ["E", "C", "A"]
    assert sorted(rows["sentence1"]) == ["a", "c", "e"]


def test_table_shows_that_a_model_of_text_alone_does_not_use_the_picture(listed):
    def evaluate_rows(rows):  # predicts the parity of the number in the text, 0 if there is none
        guesses = [int(row["text"].split()[-1]) % 2 if row["text"] else 0 for row in rows]
        return {"accuracy": float(np.mean([g == row["label"] for g, row in zip(guesses, rows, strict=True)])), "n": 7}

    found = ablation_table(evaluate_rows, listed, {"image": ["image"], "text": ["text"]}, ["accuracy"])
    assert found[:3] == [
        AblationRow("image", "blank", "accuracy", 1.0, 1.0),
        AblationRow("image", "shuffle", "accuracy", 1.0, 1.0),
        AblationRow("text", "blank", "accuracy", pytest.approx(4 / 7), 1.0),
    ]
    assert [row.fall for row in found[:3]] == [0.0, 0.0, pytest.approx(3 / 7)]
    assert found[3].how == "shuffle" and found[3].fall > 0


def test_intact_metrics_that_are_known_are_not_computed_again(listed):
    seen = []
    found = ablation_table(
        lambda rows: seen.append(rows) or {"f1": 0.25, "loss": 2.0}, listed, {"text": ["text"]}, ["f1"],
        hows=["blank"], intact={"f1": 0.75, "loss": 1.0},
    )  # fmt: skip
    assert len(seen) == 1
    assert [(row.metric, row.fall) for row in found] == [("f1", 0.5)]


def test_wrong_names_are_refused(listed, table):
    with pytest.raises(ValueError, match="how must be 'blank' or 'shuffle', got 'zero'"):
        ablate(listed, ["text"], how="zero")
    for rows in (listed, table):
        with pytest.raises(ValueError, match=r"Expected columns \['picture'\] in the rows to ablate, found \['"):
            ablate(rows, ["picture"])
    with pytest.raises(ValueError, match="at least two rows, found 1"):
        ablate(listed.select([0]), ["text"], how="shuffle")
    with pytest.raises(ValueError, match=r"Expected metrics \['f2'\] from the evaluation, found \['f1'\]"):
        ablation_table(lambda rows: {"f1": 1.0}, listed, {}, ["f2"])
