"""Processors and statistics that version 0.1 wrote: they load, and give the ids that they gave then."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest

from hf_mmtab.models.tabbert.processing.fitting import TabBertStatistics
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor

TYPES = {
    "who": pa.string(),
    "card": pa.int64(),
    "when": pa.timestamp("us"),
    "due": pa.date32(),
    "money": pa.string(),
    "level": pa.float64(),
    "shop": pa.string(),
    "code": pa.int64(),
    "merchant": pa.int64(),
    "device": pa.string(),
    "zip": pa.float64(),
    "flag": pa.bool_(),
    "wait": pa.int64(),
    "region": pa.string(),
}
FITTED_ROWS = 80  # the later rows have values that these have not


def read_rows(fixtures):
    options = arrow_csv.ConvertOptions(column_types=TYPES, timestamp_parsers=["%Y-%m-%d %H:%M:%S", arrow_csv.ISO8601])
    return arrow_csv.read_csv(fixtures / "processors_0_1" / "rows.csv", convert_options=options)


@pytest.fixture(scope="module")
def rows(fixtures):
    return read_rows(fixtures)


@pytest.fixture(scope="module", params=["own_plan", "original_plan"])
def saved(request, fixtures):
    folder = fixtures / "processors_0_1" / request.param
    return folder, json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def test_a_saved_processor_gives_the_ids_of_then(saved, rows):
    folder, expected = saved
    processor = TabBertProcessor.from_pretrained(folder)

    assert processor.fingerprint == expected["fingerprint"]
    assert processor.config_kwargs() == expected["config"]
    assert processor.unknown_ids() == expected["unknown_ids"]
    assert processor.value_ranges() == expected["value_ranges"]
    assert processor.encode(rows).to_pydict() == expected["ids"]
    assert processor.decode(processor.encode(rows.slice(0, 8))).to_pydict() == expected["decoded"]
    windows = processor([rows.slice(0, 20), rows.slice(20, 3)], max_rows=9)["input_ids"]
    assert windows.tolist() == expected["windows"]


def test_values_of_another_type_get_the_ids_of_then(saved, rows):
    folder, expected = saved
    processor = TabBertProcessor.from_pretrained(folder)
    changed = {
        "code": pa.array([None if v is None else f"{v}.0" for v in rows["code"].to_pylist()]),
        "shop": pa.array([float(i) if i % 2 else 5411.5 for i in range(rows.num_rows)]),
        "zip": rows["zip"].cast(pa.string()),
    }
    for name, values in changed.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    for name, ids in expected["ids_of_other_types"].items():
        assert processor.encode(rows)[name].to_pylist() == ids, name


def test_fitting_again_gives_the_words_of_then(saved, rows):
    folder, expected = saved
    old = TabBertProcessor.from_pretrained(folder)
    known = rows.slice(0, FITTED_ROWS)
    new = TabBertProcessor(old.plan).fit(known)

    assert new.decode(new.encode(known)).to_pydict() == old.decode(old.encode(known)).to_pydict()
    # 0.1 gave an id to every calendar part and sign, also to those that no training row has
    fixed = any(field.kind in ("time_part", "sign") for field in old.plan.fields)
    assert fixed == (new.fingerprint != expected["fingerprint"])


def test_saved_statistics_merge_into_the_processor_of_then(fixtures, tmp_path):
    folder = fixtures / "processors_0_1" / "own_plan"
    expected = TabBertProcessor.from_pretrained(folder)
    parts = [TabBertStatistics.load(folder / name) for name in ("part_1", "part_2")]
    parts[0].save(tmp_path)

    assert_same_but_for_rounding(TabBertProcessor(parts[0].plan).finish(parts[0].merge(parts[1])), expected)
    again = TabBertStatistics.load(tmp_path).merge(parts[1])
    assert_same_but_for_rounding(TabBertProcessor(again.plan).finish(again), expected)


def assert_same_but_for_rounding(found, expected):
    """All but the edges are the same to the bit; NumPy's logarithm may differ in its last digit between processors."""
    (plain, words, arrays), (of_then, words_of_then, arrays_of_then) = found._state(), expected._state()
    assert (plain, words, arrays.keys()) == (of_then, words_of_then, arrays_of_then.keys())
    exact = True
    for name, values in arrays.items():
        if name.endswith("edges"):
            np.testing.assert_allclose(values, arrays_of_then[name], rtol=1e-15)
            exact &= np.array_equal(values, arrays_of_then[name])
        else:
            assert np.array_equal(values, arrays_of_then[name]), name
    assert (found.fingerprint == expected.fingerprint) == exact
