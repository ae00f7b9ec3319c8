"""Cells that look like something else keep their values: what names things is text as it is written."""

import datetime
import re

import polars as pl
import pytest

from hf_mmtab.arguments import TableDataArguments
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.data.table import Table
from hf_mmtab.models.tabbert import TabBertProcessor
from hf_mmtab.models.tabbert.processing.plan_guess import infer_plan
from hf_mmtab.tasks.guessed_plan import doubts
from hf_mmtab.tasks.table import TableTask
from hf_mmtab.tasks.table_reading import plan_options

# Texts that polars, pandas or YAML would read as the same value, or as another one.
LOOKALIKES = {
    "leading zeros": ["7", "07", "007"],
    "leading plus": ["7", "+7", "8"],
    "exponents": ["1e5", "100000", "1e05"],
    "decimals": ["1", "1.0", "1.00"],
    "spaces": ["7", " 7", "7 "],
    "spellings of yes": ["true", "True", "false"],
    "card numbers": ["4111111111111111", "4111111111111112", "4111111111111113"],
    "18 digits": ["900719925474099300", "900719925474099301", "900719925474099302"],
    "20 digits": ["41111111111111111111", "41111111111111111112", "5"],
    "20 digits beside a decimal": ["41111111111111111111", "41111111111111111112", "1.5"],
    "dates": ["2020-01-01", "2020-01-02", "2020-01-03"],
    "dates of another order": ["01/02/2020", "02/01/2020", "03/01/2020"],
    "times": ["10:00:00", "10:00", "10:00:01"],
    "moments": ["2020-01-01 10:00:00", "2020-01-01T10:00:00", "2020-01-02 10:00:00"],
    "hexadecimal": ["0x10", "16", "17"],
    "infinities": ["inf", "Infinity", "-inf"],
}
PLAN = {"entity": "who", "time": "when", "fields": {"shop": {}, "when.gap": {"kind": "time_gap"}}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def _write(path, values, shops=None, suffix=".csv"):
    rows = [
        f"{v},{s},2024-01-0{i % 3 + i // 3 + 1} 10:00:00,{i}.5"
        for i, (v, s) in enumerate(zip(values, shops or values, strict=True))
    ]
    path = path.with_suffix(suffix)
    path.write_text("\n".join(["who,shop,when,paid", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", LOOKALIKES)
@pytest.mark.parametrize("known_by", ["plan", "roles"])
def test_entities_and_categories_are_read_as_they_are_written(kind, known_by, tmp_path):
    path = _write(tmp_path / "t", LOOKALIKES[kind])
    arguments = TableDataArguments(task="table", data=str(path), time_column="when", entity_columns=["who"])
    if known_by == "plan":
        arguments.plan = PLAN
    rows, _ = TableTask("table", Table).read(arguments, tmp_path)

    assert rows["who"][:] == LOOKALIKES[kind]
    if known_by == "plan":
        assert rows["shop"][:] == LOOKALIKES[kind]
        assert rows.features["when"].dtype == "timestamp[us]" and rows.features["paid"].dtype == "float64"


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_predicting_gives_the_ids_of_training_from_csv_and_parquet(kind, tmp_path):
    values = LOOKALIKES[kind]
    data = str(_write(tmp_path / "t", values + values[::-1]))
    arguments = TableDataArguments(task="table", data=data, plan=PLAN, split_fractions=[1.0, 0.0, 0.0])
    reader = TableTask("table", Table)
    prepared = reader.prepare(arguments, tmp_path / "run")
    saved = tmp_path / "run" / "processor"
    assert len(prepared.rows.entity_starts) == 3
    processor = TabBertProcessor.from_pretrained(saved)
    known = dict(zip(values + values[::-1], processor.encode(prepared.dataset)["shop"].to_pylist(), strict=True))
    assert len(set(known.values())) == 3 and processor.unknown_ids()[0] not in known.values()

    shuffled = [values[2], values[0], values[0]]  # each file is guessed anew: other cells, other guesses
    csv = _write(tmp_path / "new", ["a", "a", "a"], shuffled)
    frame = pl.DataFrame({"who": ["a"] * 3, "shop": shuffled, "when": [datetime.datetime(2024, 1, 1)] * 3})
    frame.write_parquet(tmp_path / "new.parquet")
    for path in (csv, tmp_path / "new.parquet"):
        arguments = TableDataArguments(task="table", data=str(path))
        rows, _ = reader.read(arguments, tmp_path, str(saved))
        assert processor.encode(rows)["shop"].to_pylist() == [known[one] for one in shuffled]


@pytest.mark.parametrize(
    "values",
    [
        [True, False, True],
        [7, 8, 9],
        [1.5, 2.0, 3.25],
        [datetime.date(2020, 1, 31), datetime.date(2020, 2, 1), datetime.date(2020, 2, 2)],
        [datetime.datetime(2020, 1, 31, 10), datetime.datetime(2020, 2, 1), datetime.datetime(2020, 2, 2)],
        [datetime.time(10), datetime.time(11), datetime.time(12, 30)],
    ],
    ids=lambda values: type(values[0]).__name__,
)
def test_processors_that_learned_typed_categories_find_them_in_csv(values, tmp_path):
    """Version 0.1 guessed the types of categories, too."""
    when = [datetime.datetime(2024, 1, 1 + i) for i in range(3)]
    frame = pl.DataFrame({"who": ["a"] * 3, "shop": values, "when": when})
    processor = TabBertProcessor(PLAN).fit(frame)
    processor.save_pretrained(tmp_path / "old")
    texts = [value.strftime("%d/%m/%Y") if type(value) is datetime.date else str(value) for value in values]
    path = _write(tmp_path / "new", ["a"] * 3, texts)
    rows, _ = TableTask("table", Table).read(
        TableDataArguments(task="table", data=str(path)), tmp_path, str(tmp_path / "old")
    )
    assert processor.encode(rows)["shop"].to_pylist() == processor.encode(frame)["shop"].to_pylist()


@pytest.mark.parametrize("cell", ["007", "+7", "-07"])
def test_a_padded_number_behind_the_first_rows_is_named(cell, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n,m\n" + "7,0\n" * 5 + f"{cell},0\n")
    builder = Table(path, cache_dir=str(tmp_path / "cache"), infer_rows=3)
    found = rf"without leading zeros, found '{re.escape(cell)}' \(.*line 7, column 'n'\).*types: {{n: string}}"
    with pytest.raises(BadRecordError, match=found):
        builder.download_and_prepare()
    told = Table(path, cache_dir=str(tmp_path / "cache"), infer_rows=3, types={"n": "string"})
    told.download_and_prepare()
    assert told.as_dataset(split="train")["n"][:] == ["7"] * 5 + [cell]


def test_columns_that_name_things_have_the_role_of_text():
    arguments = TableDataArguments(task="table", data="t.csv", entity_columns=["who"])
    assert plan_options(arguments, None)["roles"] == {"who": "text"}
    arguments.plan = PLAN
    assert plan_options(arguments, None)["roles"] == {"who": "text", "shop": "text", "when": "time"}


@pytest.mark.parametrize("names", [["NA", "null", "nan"], ["NULL", "N/A", "NaN"]])
def test_words_for_missing_are_names_where_the_recipe_says_so(names, tmp_path):
    arguments = TableDataArguments(task="table", data=str(_write(tmp_path / "t", names)), plan=PLAN)
    with pytest.raises(BadRecordError, match=r"found none \(.*line 2, column 'who'\).*`missing: \[\]`"):
        TableTask("table", Table).read(arguments, tmp_path)
    arguments.missing = []
    rows, _ = TableTask("table", Table).read(arguments, tmp_path)
    assert rows["who"][:] == rows["shop"][:] == names


@pytest.mark.parametrize(
    ("cells", "odd", "expected"),
    [
        (["1.5", "2"] * 50 + ["n.v."], "n.v.", "a value of type float64"),
        (["2020-01-01"] * 50 + ["yesterday"] * 2, "yesterday", "a value of type timestamp"),
        (["12"] * 50 + ["12 EUR"], "12 EUR", "a value of type int64"),
    ],
)
def test_a_few_odd_cells_that_make_a_column_text_are_named(cells, odd, expected):
    sample = pl.DataFrame({"paid": cells, "x": [f"s{i % 3}" for i in range(len(cells))]})
    row, several = cells.index(odd) + 1, sum(one == odd for one in cells)
    [told] = [one for one in doubts(infer_plan(sample), sample) if "became text" in one]
    assert f"'paid' became text: {several} of {len(cells)} cells are not {expected}" in told
    assert f"such as {odd!r} in row {row}" in told


@pytest.mark.parametrize("cells", [["007", "7"] * 20, ["a", "1"] * 20, ["1", "2"] * 20])
def test_columns_that_are_text_for_another_reason_are_not_doubted(cells):
    sample = pl.DataFrame({"code": cells})
    assert not any("became text" in one for one in doubts(infer_plan(sample), sample))


def test_whole_numbers_that_may_be_times_are_named():
    seconds = [1_700_000_000 + 60 * minute for minute in range(50)]
    sample = pl.DataFrame({"booked": seconds, "amount": list(range(50)), "shop": ["a", "b"] * 25})
    [told] = [one for one in doubts(infer_plan(sample), sample) if "No time column" in one]
    assert told.endswith("It may be booked.")
