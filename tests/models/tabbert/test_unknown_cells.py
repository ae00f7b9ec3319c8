"""Values that training never had, in rows given to a processor: named by field and share, once."""

import logging

import datasets
import pytest

from hf_mmtab.models.tabbert import TabBertProcessor

ROWS = {"who": [1] * 6 + [2] * 6, "amount": [1.0, 2.0, 3.0, 4.0] * 3, "shop": ["a", "b"] * 6}
FIELDS = {"amount": {"kind": "numeric", "num_bins": 2}, "shop": {}, "town": {"column": "shop"}}
PLAN = {"entity": "who", "fields": FIELDS}
NEW = {"who": [1] * 8, "amount": [1.0, 9.0] * 4, "shop": ["a", "b", "c", "d"] * 2}  # c and d in half of the rows
TOLD = "in these 8 rows: shop 50.0% (training 0.0%), town 50.0% (training 0.0%)."


@pytest.fixture
def processor():
    return TabBertProcessor(PLAN).fit(ROWS)


WAYS = {
    "encode": lambda one: one.encode(NEW),
    "call": lambda one: one(NEW),
    "histories": lambda one: one([{k: v[:4] for k, v in NEW.items()}, {k: v[4:] for k, v in NEW.items()}]),
    "encode_dataset": lambda one: one.encode_dataset(datasets.Dataset.from_dict(NEW), batch_size=3),
}


def warnings_of(caplog) -> list[str]:
    return [one.getMessage() for one in caplog.records if "training never had" in one.getMessage()]


@pytest.fixture
def heard(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_mmtab"), "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


@pytest.mark.parametrize("way", WAYS)
def test_each_way_through_a_processor_names_fields_and_shares_once(processor, heard, way):
    WAYS[way](processor)
    (told,) = warnings_of(heard)
    assert TOLD in told
    for again in WAYS.values():
        again(processor)
    assert len(warnings_of(heard)) == 1


@pytest.mark.parametrize("way", ["encode", "call", "encode_dataset"])
def test_rows_of_known_values_are_passed_over_in_silence(processor, heard, way):
    known = {name: values[:6] for name, values in ROWS.items()}
    calls = {"encode": processor.encode, "call": processor}
    calls["encode_dataset"] = lambda rows: processor.encode_dataset(datasets.Dataset.from_dict(rows))
    calls[way](known)
    assert not warnings_of(heard)


def test_values_that_were_rare_in_training_are_no_news(heard):
    rare = {**PLAN, "fields": {"shop": {"min_count": 2}}}
    rows = {"who": [1] * 4, "shop": ["a", "a", "a", "z"]}
    one = TabBertProcessor(rare).fit(rows)
    one.encode(rows)
    assert not warnings_of(heard)
    one.encode({"who": [1] * 4, "shop": ["a", "y", "z", "z"]})
    assert "shop 75.0% (training 25.0%)" in warnings_of(heard)[0]


def test_what_was_told_is_not_part_of_what_is_saved_or_hashed(processor, heard, tmp_path):
    before = datasets.fingerprint.Hasher.hash(processor)
    processor.encode(NEW)
    assert warnings_of(heard) and datasets.fingerprint.Hasher.hash(processor) == before
    processor.save_pretrained(tmp_path)
    TabBertProcessor.from_pretrained(tmp_path).encode(NEW)
    assert len(warnings_of(heard)) == 2
