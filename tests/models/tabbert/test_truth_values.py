"""A column of truth values has the same ids however a file spells them: true, TRUE, 1, 1.0, or a column of booleans."""

import polars as pl
import pyarrow as pa
import pytest

from hf_mmtab.models.tabbert import TabBertProcessor

SPELLED = {
    "booleans": [True, False, False, True, None],
    "true": ["true", "false", "false", "true", None],
    "True": ["True", "False", "False", "True", None],
    "TRUE": ["TRUE", "FALSE", "FALSE", "TRUE", None],
    "integers": [1, 0, 0, 1, None],
    "floats": [1.0, 0.0, 0.0, 1.0, None],
    "1": ["1", "0", "0", "1", None],
    "1.0": ["1.0", "0.0", "0.0", "1.0", None],
}


def rows(values) -> pl.DataFrame:
    return pl.DataFrame({"who": ["a"] * len(values), "flag": values})


def fitted(values) -> TabBertProcessor:
    return TabBertProcessor({"entity": "who", "fields": {"flag": {}}}).fit(rows(values))


@pytest.mark.parametrize("learned", SPELLED)
def test_truth_values_have_the_ids_that_training_gave_them(learned):
    processor = fitted(SPELLED[learned])
    expected = processor.encode(rows(SPELLED[learned]))["flag"].to_pylist()
    assert len(set(expected)) == 3  # true, false, missing
    for spelled in SPELLED.values():
        assert processor.encode(rows(spelled))["flag"].to_pylist() == expected
    one_by_one = [processor.encode(rows([value]))["flag"].to_pylist()[0] for value in SPELLED["True"]]
    assert one_by_one == expected  # whatever else a batch holds


@pytest.mark.parametrize("other", ["yes", "2", "tru", "10"])
def test_other_values_stay_unknown(other):
    for learned in SPELLED.values():
        processor = fitted(learned)
        assert processor.encode(rows([other]))["flag"].to_pylist() == processor.unknown_ids()


@pytest.mark.parametrize("learned", [["1", "0", "2"], ["true", "maybe"], [1, 0, 7], ["yes", "no"]])
def test_a_column_that_holds_more_than_truth_values_reads_them_as_they_are_written(learned):
    processor = fitted(learned)
    for word in ("True", "FALSE"):
        assert processor.encode(rows([word]))["flag"].to_pylist() == processor.unknown_ids()


def test_floats_never_have_the_id_of_another_whole_number():
    texts = ["9007199254740992", "9007199254740993", str(-(2**63)), "5411"]
    processor = TabBertProcessor({"fields": {"f": {}}}).fit(pa.table({"f": texts}))
    known = processor.encode(pa.table({"f": texts}))["f"].to_pylist()
    floats = pa.array([float(2**53), float(2**53 + 1), float(2**63 - 1), -(2.0**63), 5411.0])
    found = processor.encode(pa.table({"f": floats}))["f"].to_pylist()
    assert found[-1] == known[-1] and not set(found[:-1]) & set(known)
