"""What a TabBERT's processor says to Python objects that are no rows, no ids and no statistics."""

import re

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from hf_mmtab import TabBertProcessor

ROWS = {"who": [1, 1, 2, 2], "when": [1, 2, 1, 5], "amount": [1.0, 2.0, 3.0, 4.0], "shop": ["a", "b", "a", "b"]}
PLAN = {
    "entity": "who",
    "time": "when",
    "time_unit": "s",
    "fields": {"gap": {"kind": "time_gap", "num_bins": 2}, "amount": {"kind": "numeric", "num_bins": 2}, "shop": {}},
}


@pytest.fixture(scope="module")
def processor():
    return TabBertProcessor(PLAN).fit(ROWS)


def _new():
    return TabBertProcessor(PLAN)


@pytest.mark.parametrize("given", [None, [], 5, "part"])
@pytest.mark.parametrize("method", ["merge(later)", "finish(statistics)"])
def test_what_is_no_part_is_neither_merged_nor_finished(processor, method, given):
    given = processor if given == "part" else given
    part = _new().fit_part(ROWS)
    work = part.merge if method.startswith("merge") else _new().finish
    found = re.escape(f"in {method}, found {type(given).__name__}. Fit each part with `part = processor.fit_part(")
    with pytest.raises(TypeError, match=rf"Expected what `fit_part\(rows\)` gives \(TabBertStatistics\) {found}"):
        work(given)


def test_a_part_is_not_merged_with_itself():
    part = TabBertProcessor({"fields": {"shop": {}}}).fit_part(ROWS)
    with pytest.raises(ValueError, match="found this one: rows would count twice"):
        part.merge(part)
    assert part.rows == 4


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, r"found NoneType\. Pass one of these"),
        (5, r"found int\. Pass one of these"),
        ("p.csv", r"found str\. Read the file first, as with `polars\.read_csv"),
        (b"p.csv", r"found bytes\."),
        (np.zeros((3, 4)), r"found ndarray\. Name its columns first: `polars\.DataFrame"),
        (datasets.DatasetDict(train=datasets.Dataset.from_dict(ROWS)), r"`DatasetDict`\).*`rows\['train'\]`"),
    ],
    ids=str,
)
def test_fitting_and_encoding_refuse_what_is_no_table(processor, given, told):
    def in_batches(one):
        return list(processor.encode_batches(one))

    for work in (_new().fit, _new().fit_part, processor.encode, processor, in_batches):
        with pytest.raises(TypeError, match=rf"Expected (rows as a pyarrow Table|a mapping of columns).*{told}"):
            work(given)


@pytest.mark.parametrize("several", [list, tuple, iter, lambda tables: (one for one in tables)])
def test_batches_are_for_encode_batches_which_takes_one_table_too(processor, several):
    frame = pl.DataFrame(ROWS)
    expected = processor.encode(frame)
    with pytest.raises(TypeError, match=r"Batches of one table go through `encode_batches\(batches\)` one by one"):
        processor.encode(several([frame[:1], frame[1:]]))
    assert pa.concat_tables(processor.encode_batches(several([frame[:1], frame[1:]]))).equals(expected)
    for whole in (frame, frame.to_pandas(), frame.to_arrow(), ROWS, frame.to_dicts(), datasets.Dataset.from_dict(ROWS)):
        assert pa.concat_tables(processor.encode_batches(whole)).equals(expected)


def test_a_list_of_columns_of_any_library_is_no_list_of_rows(processor):
    columns = [pl.DataFrame(ROWS)[name] for name in ROWS]
    for kind in (pl.Series, pd.Series, pa.array, np.array, list):
        batch = {one.name: kind(one.to_list()) for one in columns}
        (encoded,) = processor.encode_batches([batch])
        assert encoded.num_rows == 4


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([1, "x", 2, None], r"found int such as '1' and str such as 'x' \(Could not convert"),
        ([pd.NA, float("nan"), 1, b"x"], r"found int such as '1' and bytes such as "),
        ([2**70] * 4, r"found int such as '1180591620717411303424' \("),
        (["\ud800"] * 4, r"found str such as .* surrogates"),
        ([object()] * 4, r"found object such as '<object"),
    ],
    ids=["numbers and texts", "missing", "large", "no UTF-8", "objects"],
)
def test_cells_of_several_types_are_told_with_their_column(processor, cells, told):
    frame = pd.DataFrame(ROWS).astype({"shop": object})
    frame["shop"] = pd.Series(cells, dtype=object)
    tables = [frame, ROWS | {"shop": cells}, [dict(zip(ROWS, row, strict=True)) for row in frame.values.tolist()]]
    for table in [*tables, pl.DataFrame(ROWS).with_columns(shop=pl.Series(cells, dtype=pl.Object))]:
        for work in (_new().fit, processor.encode):
            with pytest.raises(ValueError, match=rf"times in column 'shop', all of one type, {told}"):
                work(table)


def test_columns_of_another_length_and_columns_twice_are_told(processor):
    with pytest.raises(ValueError, match=r"Expected columns of one length, .* expected length 4 but got length 1"):
        processor.encode(ROWS | {"amount": [1.0]})
    frame = pd.DataFrame(ROWS)
    arrow = pa.table(ROWS)
    for doubled in (
        pd.concat([frame, frame[["shop"]]], axis=1),
        pa.Table.from_arrays([*arrow.columns, arrow["shop"]], names=[*ROWS, "shop"]),
    ):
        with pytest.raises(ValueError, match="Expected columns with a name of their own, found 'shop' more than once"):
            processor.encode(doubled)


@pytest.mark.parametrize("history", [5, False, "rows"])
def test_a_history_that_new_history_did_not_give_is_refused(processor, history):
    with pytest.raises(TypeError, match=r"Expected what `new_history\(\)` gives as history, found"):
        processor.encode(ROWS, history)


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (None, r"Expected ids of shape \(rows, 3\), found \(\)\. Pass `input_ids`"),
        ([[4, 5, 6], [4]], "Expected rows of ids, of one length"),
        ([["a", "b", "c"]], "Expected whole numbers as ids, found"),
        ([[4.5, 5.0, 6.0]], r"Expected whole numbers as ids, found \[4\.5\]"),
        ([[None, None, None]], r"Expected whole numbers as ids, found \[None\]"),
        (pa.table(ROWS), "Expected a table as `encode` gives it, .* found none of gap"),
    ],
    ids=str,
)
def test_what_is_no_ids_is_not_decoded(processor, ids, told):
    with pytest.raises(ValueError, match=told):
        processor.decode(ids)


@pytest.mark.parametrize("rows", [0, -1, "5", 1.5])
def test_no_rows_of_a_history_are_refused(processor, rows):
    with pytest.raises(ValueError, match="Expected max_rows from 1 on, or None for all rows, found"):
        processor(pl.DataFrame(ROWS)[:2], max_rows=rows)


def test_a_file_is_no_place_to_save_in(processor, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ValueError, match="Expected a folder to save in, found a file at"):
        processor.save_pretrained(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
