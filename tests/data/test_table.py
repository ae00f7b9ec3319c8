"""Tables of any kind: typed columns, and broken rows reported with file and line, never dropped in silence."""

import datetime
import gzip
import shutil

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mmtab.data.card_transactions import CardTransactions
from hf_mmtab.data.prsa import PRSA
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.data.table import Table

HEADER = "id,when,price,note\n"
GOOD = [f"{i},2024-01-0{i % 9 + 1} 10:00:00,{i}.5,n{i}\n" for i in range(1, 40)]


def _read(cls, path, tmp_path, **kwargs):
    builder = cls(path, cache_dir=str(tmp_path / "cache"), **kwargs)
    builder.download_and_prepare()
    return builder, builder.as_dataset(split="train")


def _write(tmp_path, lines, name="table.csv", header=HEADER):
    path = tmp_path / name
    path.write_text(header + "".join(lines), encoding="utf-8")
    return path


def test_a_csv_becomes_typed_columns(tmp_path):
    path = _write(tmp_path, [*GOOD, '40,2024-01-01 10:00:00,nan,"a, ""b"""\n', "41,,,\n"])
    _, rows = _read(Table, path, tmp_path)

    assert {name: feature.dtype for name, feature in rows.features.items()} == {
        "id": "int64",
        "when": "timestamp[us]",
        "price": "float64",
        "note": "string",
    }
    assert rows[0] == {"id": 1, "when": datetime.datetime(2024, 1, 2, 10), "price": 1.5, "note": "n1"}
    assert rows[39] == {"id": 40, "when": datetime.datetime(2024, 1, 1, 10), "price": None, "note": 'a, "b"'}
    assert rows[40] == {"id": 41, "when": None, "price": None, "note": None}


@pytest.mark.parametrize("suffix", [".csv.gz", ".tsv", ".parquet", ".arrow"])
def test_other_files_give_the_same_rows(suffix, tmp_path):
    plain = _write(tmp_path, GOOD)
    _, expected = _read(Table, plain, tmp_path)
    path = tmp_path / f"other{suffix}"
    if suffix == ".csv.gz":
        with open(plain, "rb") as source, gzip.open(path, "wb") as target:
            shutil.copyfileobj(source, target)
    elif suffix == ".tsv":
        path.write_text(plain.read_text().replace(",", "\t"))
    else:
        frame = pl.from_arrow(expected.with_format("arrow")[:])
        frame.write_parquet(path) if suffix == ".parquet" else frame.write_ipc(path)
    _, rows = _read(Table, path, tmp_path)

    assert rows.to_list() == expected.to_list()
    assert rows.features == expected.features


def test_a_folder_is_read_in_the_order_of_names_and_rows_can_be_limited(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    _write(folder, GOOD[:3], "b.csv")
    _write(folder, GOOD[3:6], "a.csv")

    assert _read(Table, folder, tmp_path)[1]["id"][:] == [4, 5, 6, 1, 2, 3]
    assert _read(Table, folder, tmp_path, max_rows=4)[1]["id"][:] == [4, 5, 6, 1]


def test_a_changed_file_is_read_again(tmp_path):
    path = _write(tmp_path, GOOD[:3])
    assert len(_read(Table, path, tmp_path)[1]) == 3
    _write(tmp_path, GOOD[:5])
    assert len(_read(Table, path, tmp_path)[1]) == 5


def test_types_can_be_given_by_name_or_format(tmp_path):
    path = _write(tmp_path, ["007,31.12.2023 23:59,1,x\n"])
    _, rows = _read(Table, path, tmp_path, types={"id": "string", "when": "%d.%m.%Y %H:%M", "price": "float"})

    assert rows[0] == {"id": "007", "when": datetime.datetime(2023, 12, 31, 23, 59), "price": 1.0, "note": "x"}


BROKEN = {
    "too few cells": ("7,2024-01-01 10:00:00\n", None, "Expected 4 cells, found 2"),
    "too many cells": ("7,2024-01-01 10:00:00,1.5,x,y\n", None, "Expected 4 cells, found 5"),
    "mixed types": (
        "seven,2024-01-01 10:00:00,1.5,x\n",
        "id",
        "Expected a value of type int64 without leading zeros, found 'seven'",
    ),
    "no number": ("7,2024-01-01 10:00:00,cheap,x\n", "price", "a value of type float64, found 'cheap'"),
    "no date": ("7,yesterday,1.5,x\n", "when", "Expected a value of type timestamp, found 'yesterday'"),
    "an open quote": ('7,2024-01-01 10:00:00,1.5,"x\n', None, "Expected a CSV row, found"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("last", [False, True])
def test_a_broken_row_is_reported_with_its_line(kind, last, tmp_path):
    broken, column, message = BROKEN[kind]
    lines = [*GOOD, broken] if last else [*GOOD[:20], broken, *GOOD[20:]]
    path = _write(tmp_path, lines)
    line = len(GOOD) + 2 if last else 22

    with pytest.raises(BadRecordError) as caught:
        _read(Table, path, tmp_path, infer_rows=10)
    error = caught.value
    assert message in str(error)
    assert f"{str(path)!r}, line {line}" in str(error)
    assert "To leave such records out and list them, set on_bad_record to skip." in str(error)
    assert error.record.column == column

    builder, rows = _read(Table, path, tmp_path, infer_rows=10, on_bad_record="skip")
    assert len(rows) == len(GOOD)  # nothing else is lost
    assert rows["note"][:] == [f"n{i}" for i in range(1, 40)]
    assert [(r.line, r.column) for r in builder.skipped] == [(line, column)]


@pytest.mark.parametrize("broken", ["7,2024-01-01\n", "7,2024-01-01 10:00:00,1.5,x,y\n", '7,"2024,1\n'])
def test_a_row_that_is_left_out_decides_no_type(broken, tmp_path):
    path = _write(tmp_path, [*GOOD[:20], broken, *GOOD[20:]])
    builder, rows = _read(Table, path, tmp_path, on_bad_record="skip")

    assert {name: feature.dtype for name, feature in rows.features.items()} == {
        "id": "int64",
        "when": "timestamp[us]",
        "price": "float64",
        "note": "string",
    }
    assert len(rows) == len(GOOD) and [r.line for r in builder.skipped] == [22]


PLANNED = {"roles": {"when": "time", "price": "amount"}, "required": ("id", "when")}
WRONG = {
    "no moment": ("7,yesterday,1.5,x\n", "when", "Expected a value of type timestamp, found 'yesterday'"),
    "no amount": ("7,2024-01-01 10:00:00,twelve,x\n", "price", "found 'twelve'"),
    "no time at all": ("7,,1.5,x\n", "when", "since it says whose row this is or when it was, found none"),
    "nobody": (",2024-01-01 10:00:00,1.5,x\n", "id", "since it says whose row this is"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_cell_that_the_plan_cannot_read_is_reported_with_its_line(kind, tmp_path):
    broken, column, message = WRONG[kind]
    path = _write(tmp_path, [*GOOD[:20], broken, *GOOD[20:]])

    with pytest.raises(BadRecordError) as caught:
        _read(Table, path, tmp_path, **PLANNED)
    assert message in str(caught.value)
    assert f"{str(path)!r}, line 22, column {column!r}" in str(caught.value)

    builder, rows = _read(Table, path, tmp_path, on_bad_record="skip", **PLANNED)
    assert [(r.line, r.column) for r in builder.skipped] == [(22, column)]
    assert len(rows) == len(GOOD) and rows.features["when"].dtype == "timestamp[us]"
    assert rows["price"][:] == [i + 0.5 for i in range(1, 40)]


def test_amounts_in_any_writing_become_numbers(tmp_path):
    cells = ["$-12.30", "-$3.50", '"$1,234.5"', "(7.00)", "", " 8 "]
    path = _write(tmp_path, [f"1,2024-01-01 10:00:00,{cell},x\n" for cell in cells])
    _, rows = _read(Table, path, tmp_path, **PLANNED)

    assert rows["price"][:] == [-12.3, -3.5, 1234.5, -7.0, None, 8.0]


def test_numbers_that_order_rows_are_read_beside_a_wrong_one(tmp_path):
    path = _write(tmp_path, [*(f"{i},{i * 7},1,x\n" for i in range(20)), "20,soon,1,x\n"])
    builder, rows = _read(Table, path, tmp_path, on_bad_record="skip", **PLANNED)

    assert rows["when"][:] == [i * 7 for i in range(20)] and builder.skipped[0].line == 22


def test_rows_of_parquet_without_a_time_are_left_out_and_counted(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"id": [1, None, 3, 4], "when": [1, 2, None, 4]}).write_parquet(path)
    required = ("id", "when")
    builder, rows = _read(Table, path, tmp_path, on_bad_record="skip", required=required)

    assert rows["when"][:] == [1, 4]
    assert sorted((r.line, r.column) for r in builder.skipped) == [(2, "id"), (3, "when")]
    with pytest.raises(BadRecordError, match="row 2, column 'id'"):
        _read(Table, path, tmp_path, required=required)


def test_bytes_that_are_not_utf8_are_reported(tmp_path):
    path = _write(tmp_path, GOOD)
    path.write_bytes(path.read_bytes().replace(b"n7\n", b"n\xff\n"))
    builder, rows = _read(Table, path, tmp_path, on_bad_record="skip")

    assert len(rows) == len(GOOD) - 1
    assert "Expected UTF-8 text" in str(builder.skipped[0]) and builder.skipped[0].line == 8


def test_types_that_do_not_fit_a_format_are_reported_with_the_row(tmp_path):
    path = _write(tmp_path, [f"{i},31.12.2023,1,x\n" for i in range(5)] + ["5,12/31/2023,1,x\n"])
    builder, rows = _read(Table, path, tmp_path, types={"when": "%d.%m.%Y"}, on_bad_record="skip")

    assert len(rows) == 5
    assert "column 'when'" in str(builder.skipped[0]) and "'12/31/2023'" in str(builder.skipped[0])
    assert builder.skipped[0].line == 7


@pytest.mark.parametrize("block_bytes", [64, 200, 1000, 2**20])
def test_blocks_of_any_size_give_the_same_rows(block_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(Table, "BLOCK_BYTES", block_bytes)
    lines = [f'{i},"line one\nline {i}, two",{i}.5\n' if i % 3 else f"{i},plain,\n" for i in range(60)]
    lines[30] = "oops,plain,1\n"
    path = _write(tmp_path, lines, header="a,b,c\n")
    builder, rows = _read(Table, path, tmp_path, types={"a": "int", "c": "float"}, on_bad_record="skip")

    assert rows["a"][:] == [i for i in range(60) if i != 30]
    assert rows["b"][1] == "line one\nline 1, two"
    assert [r.line for r in builder.skipped] == [2 + 30 + 20]  # twenty cells before it hold a line end


ROWS = HEADER.encode() + "".join(GOOD).encode()
LONG = gzip.compress(("a,b\n" + "".join(f"{i},{i * 7919 % 1009}\n" for i in range(90_000))).encode())
FRACTIONS, TEXT = pa.table({"a": [1.5, 2.0]}), pa.table({"a": ["x", "y"]})
REFUSED = [  # file → content, options, message
    ({"t.xlsx": b""}, {}, "Expected a file ending in one of .csv"),
    ({"t.csv": ROWS}, {"types": {"prise": "float"}}, r"Expected columns \['prise'\] .named in `types`., found \['id'"),
    ({"t.csv": ROWS}, {"types": {"price": "number"}}, r"types\['price'\] must be one of string, .* got 'number'"),
    ({"t.csv": b"a,b,a\n1,2,3\n"}, {}, r"Expected different column names, found \['a'\] twice"),
    ({"t.csv": b"\n1,2,3\n"}, {}, "column names, found nothing"),
    ({"t.csv": b"  \n1,2,3\n"}, {}, "column names, found nothing"),
    ({"t.csv": b"a;b\n1;2\n"}, {}, r"parted by ',', found a single one, 'a;b', .*`separator: \";\"`"),
    ({"t.csv.gz": LONG[: len(LONG) // 2]}, {}, "Expected a whole gzip file, found '.*t.csv.gz', which cannot be read"),
    ({"t.parquet": b""}, {}, "t.parquet', which cannot be read"),
    ({"t.arrow": b""}, {}, "t.arrow', which cannot be read"),
    ({"t.parquet": FRACTIONS}, {"types": {"b": "int"}}, r"'b'.*found \['a'\]"),
    ({"t.parquet": FRACTIONS}, {"types": {"a": "number"}}, r"types\['a'\] must be one of"),
    ({"t.parquet": pa.table([[1], [2]], names=["a", "a"])}, {},
     r"Expected different column names, found \['a'\] twice in '.*t.parquet'"),
    ({"a.parquet": FRACTIONS, "b.parquet": TEXT}, {},
     "type in column 'a' of all files, found double in .* and string in"),
    ({"a.csv": b"a\n1\n", "b.parquet": TEXT}, {},
     r"of one kind in .*found text \(a.csv\) and Parquet \(b.parquet\)"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "options", "message"), REFUSED)
def test_files_that_are_no_tables_are_refused(files, options, message, tmp_path):
    (tmp_path / "data").mkdir()
    for name, content in files.items():
        path = tmp_path / "data" / name
        path.write_bytes(content) if isinstance(content, bytes) else pq.write_table(content, path)
    with pytest.raises(ValueError, match=message):
        _read(Table, path if len(files) == 1 else path.parent, tmp_path, **options)


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Expected a table, or a folder of files ending in .csv"):
        Table(tmp_path / "none", cache_dir=str(tmp_path))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_decimal_commas_are_refused_unless_they_are_named(kind, tmp_path):
    frame = pl.DataFrame({"who": ["a", "b", "c", "d"], "price": ["9,66", "1.234,50", "", "-7"]})
    path = tmp_path / f"prices.{kind}"
    (frame.write_csv(path, separator=";") if kind == "csv" else frame.write_parquet(path))
    separator = {"separator": ";"} if kind == "csv" else {}
    with pytest.raises(
        ValueError,
        match=r"Expected a number, or an amount such as .*found '9,66' .*column 'price'.*"
        r"`types: \{price: decimal_comma\}`",
    ):
        _read(Table, path, tmp_path, roles={"price": "amount"}, **separator)
    _, rows = _read(Table, path, tmp_path, types={"price": "decimal_comma"}, **separator)
    assert rows["price"][:] == [9.66, 1234.5, None, -7.0]
    wrong = tmp_path / f"wrong.{kind}"
    frame = frame.with_columns(price=pl.Series(["9,66", "1.234.5", "1,2,3", "7"]))
    (frame.write_csv(wrong, separator=";") if kind == "csv" else frame.write_parquet(wrong))
    builder, rows = _read(Table, wrong, tmp_path, types={"price": "decimal_comma"}, on_bad_record="skip", **separator)
    assert rows["price"][:] == [9.66, 7.0] and len(builder.skipped) == 2
    assert "a number with a decimal comma, such as 1.234,50" in str(builder.skipped[0])


def test_both_dialects_of_ibms_table_give_the_same_rows(fixtures, tmp_path):
    new = (fixtures / "cards_400.csv").read_text()
    assert ",ONLINE," in new and '"Bad PIN,"' in new  # the newer names, the older errors
    older = tmp_path / "older.csv"
    older.write_text(new.replace(",ONLINE,", ", ONLINE,"))
    newest = tmp_path / "newest.csv"
    newest.write_text(new.replace(',"Bad PIN,",', ",Bad PIN,"))

    _, expected = _read(CardTransactions, fixtures / "cards_400.csv", tmp_path)
    assert _read(CardTransactions, older, tmp_path)[1].to_list() == expected.to_list()
    assert _read(CardTransactions, newest, tmp_path)[1].to_list() == expected.to_list()
    assert expected[0]["Timestamp"].minute is not None
    assert set(expected["Errors?"]) == {None, "Insufficient Balance", "Bad PIN", "Technical Glitch"} & set(
        expected["Errors?"]
    )
    assert sum(expected["Is Fraud?"]) == 8
    assert expected.features["Is Fraud?"].names == ["No", "Yes"]
    assert min(expected["Amount"]) < 0  # refunds


CARD_CHANGES = {
    "amount": (6, "about $4", "a value that makes 'Amount', found 'about $4'"),
    "day": (4, "31", "a value that makes 'Timestamp'"),
    "time": (5, "noon", "a value that makes 'Timestamp'"),
    "label": (14, "Maybe", "a value that makes 'Is Fraud?', found 'Maybe'"),
    "merchant": (8, "Shop", "Expected a value of type int64, found 'Shop'"),
}


@pytest.mark.parametrize("kind", CARD_CHANGES)
def test_a_broken_card_row_is_reported_with_its_line(kind, fixtures, tmp_path):
    place, value, message = CARD_CHANGES[kind]
    lines = (fixtures / "cards_400.csv").read_text().splitlines(keepends=True)
    row = "0,0,2004,2,29,09:57,$68.25,Swipe Transaction,-46,Riverport,MS,18344.0,5812,,No"
    cells = row.split(",")
    cells[place] = value
    lines.insert(101, ",".join(cells) + "\n")
    path = tmp_path / "cards.csv"
    path.write_text("".join(lines))
    builder, rows = _read(CardTransactions, path, tmp_path, on_bad_record="skip")

    assert len(rows) == 400
    assert [r.line for r in builder.skipped] == [102]
    assert message in str(builder.skipped[0])


def test_a_card_table_without_a_needed_column_is_an_error_and_without_labels_is_not(fixtures, tmp_path):
    frame = pl.read_csv(fixtures / "cards_400.csv")
    frame.drop("MCC").write_csv(tmp_path / "no_mcc.csv")
    frame.drop("Is Fraud?").write_csv(tmp_path / "no_label.csv")

    with pytest.raises(ValueError, match=r"no \['MCC'\] among \['User', .*use the `table` builder"):
        _read(CardTransactions, tmp_path / "no_mcc.csv", tmp_path)
    _, rows = _read(CardTransactions, tmp_path / "no_label.csv", tmp_path)
    assert len(rows) == 400 and "Is Fraud?" not in rows.column_names


def test_air_quality_is_read_with_its_missing_values(tmp_path):
    header = '"No","year","month","day","hour","PM2.5","PM10","SO2","NO2","CO","O3","TEMP","PRES","DEWP","RAIN",'
    header += '"wd","WSPM","station"\n'
    lines = ['1,2013,3,1,0,3,NA,13,7,300,85,-2.3,1020.8,-19.7,0,"E",0.5,"Changping"\n']
    lines += ["2,2013,3,1,1,NA,3,6,6,300,85,-2.5,1021.3,-19,0,NA,0.7,Changping\n"]
    _, rows = _read(PRSA, _write(tmp_path, lines, header=header), tmp_path)

    assert rows[0]["timestamp"] == datetime.datetime(2013, 3, 1, 0)
    assert (rows[0]["PM2.5"], rows[0]["PM10"], rows[0]["wd"]) == (3.0, None, "E")
    assert (rows[1]["PM2.5"], rows[1]["wd"]) == (None, None)
    with pytest.raises(ValueError, match=r"PRSA station files, found no \['station'\]"):
        _read(PRSA, _write(tmp_path, lines, header=header.replace('"station"', "place")), tmp_path)


def test_real_stations_and_a_real_cardholder_are_read(shared_data, tmp_path):
    _, air = _read(PRSA, shared_data / "prsa", tmp_path)
    _, card = _read(CardTransactions, shared_data / "card" / "card_user0.csv.gz", tmp_path)

    assert len(air) == 2 * 35_064
    assert len(card) == 19_963 and sum(card["Is Fraud?"]) == 27


TEXTS = {
    "id": ["1", "2", "x7", "4"],
    "when": ["2024-01-01 10:00:00", "2024-01-02 10:00:00", "2024-01-03 10:00:00", "soon"],
    "day": ["31.12.2023", "30.12.2023", "29.12.2023", "28.12.2023"],
    "price": ["$1.50", "NA", "(1,000.25)", "2"],
    "account": [7, 8, 9, 10],
}
OF_TEXTS = {
    "types": {"id": "int", "day": "%d.%m.%Y", "account": "string"},
    "roles": {"when": "time", "price": "amount"},
}


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_text_of_arrow_files_becomes_the_types_that_are_asked_for(suffix, tmp_path):
    path = tmp_path / f"t{suffix}"
    frame = pl.DataFrame(TEXTS)
    frame.write_parquet(path, row_group_size=3) if suffix == ".parquet" else frame.write_ipc(path)
    builder, rows = _read(Table, path, tmp_path, on_bad_record="skip", **OF_TEXTS)

    assert {name: feature.dtype for name, feature in rows.features.items()} == {
        "id": "int64", "when": "timestamp[us]", "day": "timestamp[us]", "price": "float64", "account": "string",
    }  # fmt: skip
    assert rows["id"][:] == [1, 2] and rows["account"][:] == ["7", "8"] and rows["price"][:] == [1.5, None]
    assert rows["day"][0] == datetime.datetime(2023, 12, 31) and rows["when"][1].day == 2
    assert [(r.line, r.column, r.found) for r in builder.skipped] == [(3, "id", "'x7'"), (4, "when", "'soon'")]
    with pytest.raises(BadRecordError, match=r"Expected a value of type int64, found 'x7' .*row 3, column 'id'"):
        _read(Table, path, tmp_path, **OF_TEXTS)


def test_the_first_broken_row_of_an_arrow_file_is_reported_first(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"when": ["2024-01-01", "2024-01-02", "soon"], "price": ["1", "much", "2"]}).write_parquet(path)
    roles = {"when": "time", "price": "amount"}
    with pytest.raises(BadRecordError, match=r"Expected a number, or .*found 'much' .*row 2, column 'price'"):
        _read(Table, path, tmp_path, roles=roles)
    builder, _ = _read(Table, path, tmp_path, roles=roles, on_bad_record="skip")
    assert [record.line for record in builder.skipped] == [2, 3]
    assert "say how times are written: `types: {when:" in builder.skipped[1].remedy


def test_categoricals_of_polars_are_text(tmp_path):
    path = tmp_path / "t.arrow"
    frame = pl.DataFrame({"shop": pl.Series(["a", "b", None], dtype=pl.Categorical), "n": [1, 2, 3]})
    frame.write_ipc(path)
    _, rows = _read(Table, path, tmp_path)
    assert rows["shop"][:] == ["a", "b", None] and rows.features["shop"].dtype == "string"


def test_guesses_do_not_change_values(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("account,big,padded,n\n7,12345678901234567890,1,1\n07,1,02,2\n007,2,30,\n")
    _, rows = _read(Table, path, tmp_path)
    assert rows["account"][:] == ["7", "07", "007"] and rows["big"][0] == "12345678901234567890"
    assert rows["padded"][1] == "02" and rows["n"][:] == [1, 2, None]


def test_files_that_are_no_data_are_left_alone(tmp_path, caplog):
    folder = tmp_path / "many"
    folder.mkdir()
    _write(folder, GOOD[:3], "b.csv")
    for name in (".b.csv", "._b.csv", "README.txt", "LICENSE.txt"):
        (folder / name).write_text("Not a table, but prose\nwith commas, and lines.\n")
    assert len(_read(Table, folder, tmp_path)[1]) == 3
    (folder / "other.txt").write_text("Not a table, but prose\nwith commas, and lines.\n")
    with pytest.raises(
        ValueError, match=r"first file, 'b.csv', found none called .* in '.*other.txt'.*take the file out"
    ):
        _read(Table, folder, tmp_path)


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_row_numbers_of_pandas_are_not_read_unless_they_are_named(name, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"{name},a\n0,x\n1,y\n")
    assert _read(Table, path, tmp_path)[1].column_names == ["a"]
    assert _read(Table, path, tmp_path, used=("Unnamed: 0",))[1].column_names == [*([name] if name else []), "a"]


def test_a_wide_table_is_read_in_one_go(tmp_path):
    names = [f"c{i}" for i in range(3000)]
    path = tmp_path / "t.csv"
    path.write_text(",".join(names) + "\n" + ",".join("1" * 3000) + "\n" + ",".join("x" * 3000) + "\n")
    _, rows = _read(Table, path, tmp_path)
    assert rows[1]["c2999"] == "x"


@pytest.mark.parametrize("kinds", [("float32", "float64"), ("float64", "float32"), ("float32", "float32")], ids=str)
def test_numbers_of_32_bits_are_read_as_they_are_written_whatever_the_other_files_have(kinds, tmp_path):
    prices, folder = [0.1, 10.73, None, -2.5, 1e30, float("inf")], tmp_path / "files"
    folder.mkdir()
    for name, kind in zip("ab", kinds, strict=True):
        columns = {"id": pa.array([name] * 6), "price": pa.array(prices, getattr(pa, kind)())}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    assert _read(Table, folder, tmp_path)[1]["price"][:] == prices * 2
