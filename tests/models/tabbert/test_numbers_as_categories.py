"""A category that is a number is the same however a file spells it; one that is a name is not."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from hf_mmtab.models.mmbt.beside_columns import UNKNOWN, encode_columns
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.models.tabbert.processing.values import as_table, numbers
from hf_mmtab.statistics import RowStatistics
from hf_mmtab.statistics.columns import columns_of_history

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


@pytest.mark.parametrize(
    ("training", "told"),
    [
        (["1.5", "1.50", "2", "2.0", "3"], "spells 2 numbers in several ways"),
        (["0", "-0.0"], "spells 1 numbers in several ways, such as '-0.0' and '0'"),
        (["7", "07"], None),
        (["1.5", "1.50", "x"], None),
        ([1.5, 2.0], None),
        (["1", "2", None], None),
    ],
    ids=str,
)
def test_several_spellings_of_a_number_in_training_are_told(training, told, caplog):
    TabBertProcessor({"fields": {"code": {}}}).fit({"code": training})
    if told is None:
        assert "several ways" not in caplog.text
    else:
        assert told in caplog.text and "types: {code: float}" in caplog.text


@pytest.mark.parametrize("cell", ["0.10", ".1", 0.1, float(np.float32(0.1)), "1e-1"])
def test_columns_beside_pictures_know_them_too(cell):
    columns = {"size": {"values": ["2", "0.1", "1000"]}}
    assert encode_columns(columns, {"size": cell}) == {"column_categories": [3]}


@pytest.mark.parametrize("training", [[7, 8], [7.0, 8.5], pa.array([7.0, 8.5], pa.float32()), ["7", "8"]], ids=str)
def test_leading_zeros_make_another_value(training):
    processor = TabBertProcessor({"fields": {"code": {}}}).fit({"code": training})
    found = processor.decode(processor.encode({"code": ["007", "7", "07.0", "7.0"]}))["code"].to_pylist()
    assert found[::2] == ["[UNK]"] * 2 and found[1] == found[3] != "[UNK]"


@pytest.mark.parametrize("settings", [{}, {"hash_buckets": 50}, {"max_values": 1}, {"min_count": 2}], ids=str)
@pytest.mark.parametrize(
    ("training", "plain", "spelled"),
    [
        (["1.5", "2", "3", "2"], ["1.5", "2", "2", "9", "9", None], ["1.50", "2", "2.0", "9", "9.0", ""]),
        (["1.5", "2", "3", "2"], ["1.5", "2", "2", "9", "9", None], [1.5, 2.0, 2.0, 9.0, 9.0, None]),
        ([5, 6, 6, 7], [5, 6, 6, 9, 9, None], ["5", "6.0", "6", "9", "9.00", ""]),
        ([5, 6, 6, 7], [5, 6, 6, 9, 9, None], [5.0, 6.0, 6.0, 9.0, 9.0, None]),
        ([0.1, 0.25, 0.25], [0.1, 0.25, 0.25, 0.1], pa.array([0.1, 0.25, 0.25, 0.1], pa.float32())),
    ],
    ids=str,
)
def test_spellings_of_one_id_are_one_value_of_statistics(training, plain, spelled, settings):
    _expect_the_same(training, plain, spelled, settings)


def test_so_are_spellings_of_truth_values():
    _expect_the_same([True, False, True, False], [True, False, True, True], ["true", "0", "TRUE", "1"], {})


def _expect_the_same(training, plain, spelled, settings):
    def table(cells):
        return as_table({"code": cells, "amount": np.arange(len(cells)) % 4 + 0.5, "when": np.arange(len(cells))})

    plan = {"time": "when", "fields": {"code": settings, "amount": {"kind": "numeric", "num_bins": 2}}}
    processor = TabBertProcessor(plan).fit(table(training))
    fitted = RowStatistics.fit(columns_of_history(table(training), processor), np.ones(len(training), bool))
    names = [name for name in fitted.names if "as a number" not in name]
    assert processor.encode(table(spelled)).equals(processor.encode(table(plain)))
    found, expected = (dict(fitted.features(columns_of_history(table(one), processor))) for one in (spelled, plain))
    assert any(name.startswith("code: ") for name in names)
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name], name)


def test_names_that_look_like_numbers_stay_several_values_of_statistics():
    for training, later in (
        (["1000", "abc"], ["1000", "1e3"]),
        (["7", "8"], ["7", "007"]),
        (["1", "1.0"], ["1", "1.0"]),
    ):
        rows = as_table({"code": training})
        processor = TabBertProcessor({"fields": {"code": {}}}).fit(rows)
        assert len(set(columns_of_history(as_table({"code": later}), processor).categories["code"])) == 2


def test_numbers_of_32_bits_are_read_as_they_are_written():
    values = [0.1, 10.73, -2.5, 1e30, 16777216.0, None, float("nan"), float("inf"), -0.0]
    found = numbers(pa.array(values, pa.float32()), "amount")
    np.testing.assert_array_equal(found, numbers(pa.array(values), "amount"))
    assert numbers(pa.array([], pa.float32()), "amount").shape == (0,)
    assert np.isnan(numbers(pa.array([None], pa.float32()), "amount")).all()


@pytest.mark.parametrize("cells", [DECIMALS, SINGLE, ["1", "0.1", "1e3"]], ids=str)
def test_categories_that_are_numbers_enter_statistics_as_numbers_too(cells):
    processor = TabBertProcessor({"fields": {"code": {}}}).fit({"code": [1.0, 0.1, 1000.0]})
    found = columns_of_history(as_table({"code": cells}), processor).numbered["code"]
    np.testing.assert_allclose(found, [1.0, 0.1, 1000.0], rtol=1e-7)


def _fitted(codes, training):
    rows = as_table({"code": codes, "amount": np.arange(len(codes)) + 0.5})
    processor = TabBertProcessor({"fields": {"code": {}, "amount": {"kind": "numeric", "num_bins": 2}}}).fit(rows)
    return RowStatistics.fit(columns_of_history(rows, processor), np.array(training)), processor


@pytest.mark.parametrize(
    "later",
    [
        ["7", "x", None, "8"],
        ["x", "y", "x", "y"],
        [None] * 4,
        [True, False, None, True],
        pa.nulls(4),
        DECIMALS.slice(0),
    ],
    ids=str,
)
def test_cells_that_are_no_numbers_are_missing_ones_of_a_statistic_of_numbers(later):
    fitted, processor = _fitted(["7", "8", "9", "7"], [True] * 4)
    assert "code as a number" in fitted.names
    rows = as_table({"code": later, "amount": np.arange(len(later)) + 0.5})
    found = dict(fitted.features(columns_of_history(rows, processor)))
    assert set(found) == set(fitted.names)
    cells = pa.array(later).to_pylist() if not isinstance(later, pa.Array) else later.to_pylist()
    expected = [np.nan if cell in (None, "x", "y") else float(cell) for cell in cells]
    np.testing.assert_array_equal(found["code as a number"], expected)


@pytest.mark.parametrize("last", ["x", "1e300", "9", None])
def test_later_rows_do_not_choose_the_statistics(last):
    names = _fitted(["7", "8", "9"], [True] * 3)[0].names
    assert _fitted(["7", "8", "9", last], [True, True, True, False])[0].names == names
    assert "code as a number" not in _fitted(["7", "8", "9", "x"], [True] * 4)[0].names
    many = [f"{place:04}" for place in range(1500)]
    training = np.arange(1500) < 900
    assert _fitted(many, training)[0].crowded == [] and _fitted(many, training | True)[0].crowded == ["code"]
