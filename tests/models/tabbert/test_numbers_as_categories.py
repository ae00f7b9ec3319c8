"""A category that is a number is the same however a file spells it; one that is a name is not."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from hf_mmtab.models.mmbt.beside_columns import UNKNOWN, encode_columns
from hf_mmtab.models.tabbert import TabBertProcessor

SINGLE = pa.array([1.0, 0.1, 1000.0], pa.float32())
DECIMALS = pa.array([Decimal("1.00"), Decimal("0.10"), Decimal("1000.00")])
SPELLINGS = [
    ["1.0", "0.10", "1e3"], ["1", ".1", "1000"], ["1.", "0.1", "1E+3"], [1.0, 0.1, 1000.0], SINGLE, DECIMALS,
]  # fmt: skip


@pytest.mark.parametrize("new", SPELLINGS, ids=str)
@pytest.mark.parametrize("training", SPELLINGS, ids=str)
def test_numbers_are_the_same_however_two_files_spell_them(training, new):
    processor = TabBertProcessor({"fields": {"code": {}}}).fit({"code": training})
    assert processor.encode({"code": new}).equals(processor.encode({"code": training}))


ZEROS = [
    [-0.0, 1.0], [0.0, 1.0], [0, 1], ["-0.0", "1"], ["0", "1"], pa.array([-0.0, 1.0], pa.float32()),
    pa.array([0.0, 1.0], pa.float32()),
]  # fmt: skip


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("new", ZEROS, ids=str)
@pytest.mark.parametrize("training", ZEROS, ids=str)
def test_zero_has_no_sign(training, new, hashed):
    plan = {"fields": {"code": {"hash_buckets": 4} if hashed else {}}}
    processor = TabBertProcessor(plan).fit({"code": training})
    assert processor.encode({"code": new}).equals(processor.encode({"code": training}))


def test_both_zeros_of_a_column_are_one_value_beside_missing_ones():
    processor = TabBertProcessor({"fields": {"code": {}}}).fit({"code": [0.0, -0.0, 1.0, None]})
    whole = TabBertProcessor({"fields": {"code": {}}}).fit({"code": [0, 0, 1, None]})
    assert processor.vocab_size == whole.vocab_size
    assert processor.encode({"code": [-0.0, 1.0, None]}).equals(whole.encode({"code": [0, 1, None]}))


@pytest.mark.parametrize("new", [[1, 1000], ["1", "1000"], ["1.0", "1e3"], [1.0, 1000.0]], ids=str)
@pytest.mark.parametrize("training", [[1, 1000], ["1", "1000"], ["1.0", "1e3"], [1.0, 1000.0]], ids=str)
def test_so_are_whole_numbers(training, new):
    processor = TabBertProcessor({"fields": {"code": {}}}).fit({"code": training})
    assert processor.encode({"code": new}).equals(processor.encode({"code": training}))


@pytest.mark.parametrize(
    ("training", "new"),
    [
        (["7", "8"], "007"),
        (["1000", "abc"], "1e3"),
        (["1000", "2"], "+1000"),
        (["4929000000000000001", "5"], "4929000000000000002"),
        ([16777217.0, 0.5], 16777216.0),
        ([16777217, 5], 16777216),
        (["1", "2"], "1 000"),
        (["1", "2"], "nan"),
    ],
)
def test_names_and_other_numbers_stay_unknown(training, new):
    processor = TabBertProcessor({"fields": {"code": {}}}).fit({"code": training})
    found = processor.decode(processor.encode({"code": [new, training[0]]}))["code"].to_pylist()
    assert found == ["[UNK]", str(training[0])]
    columns = {"code": {"values": [str(one) for one in training]}}
    assert encode_columns(columns, {"code": str(new)}) == {"column_categories": [UNKNOWN]}


def test_a_number_in_a_file_of_numbers_is_one_among_names():
    processor = TabBertProcessor({"fields": {"code": {}}}).fit({"code": ["1.0", "N/K", "2.50"]})
    found = processor.encode({"code": pa.array([1.0, 2.5, None, 3.0])})
    assert processor.decode(found)["code"].to_pylist() == ["1.0", "2.50", "[MISSING]", "[UNK]"]


def test_a_spelling_that_training_had_comes_first():
    processor = TabBertProcessor({"fields": {"code": {}}}).fit({"code": ["1", "1.0", "1.0"]})
    found = processor.decode(processor.encode({"code": ["1", "1.0", "1.00"]}))["code"].to_pylist()
    assert found == ["1", "1.0", "1.0"]


@pytest.mark.parametrize("cell", ["0.10", ".1", 0.1, float(np.float32(0.1)), "1e-1"])
def test_columns_beside_pictures_know_them_too(cell):
    columns = {"size": {"values": ["2", "0.1", "1000"]}}
    assert encode_columns(columns, {"size": cell}) == {"column_categories": [3]}
