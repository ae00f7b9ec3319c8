"""A Parquet or Arrow file may hold text that is not UTF-8: its rows are bad records, with file, row and column."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_mmtab.data.image_text import ImageText
from hf_mmtab.data.image_text_loading import read_image_text
from hf_mmtab.data.reading.record_files import iter_records
from hf_mmtab.data.reading.records import BadRecordError, BadRecords
from hf_mmtab.data.table import Table
from hf_mmtab.models.tabbert import TabBertProcessor

BROKEN = b"K\xe4se"


def texts(kind: pa.DataType, rows: int = 9, at: tuple[int, ...] = (4, 6)) -> pa.Array:
    raw = [BROKEN if i in at else None if i == 2 else b"shop %d" % (i % 3) for i in range(rows)]
    if pa.types.is_dictionary(kind):
        values = pa.array([b"shop", BROKEN], pa.binary()).view(kind.value_type)
        indices = pa.array([None if v is None else int(v == BROKEN) for v in raw], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, values)
    storage = {pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}.get(kind, pa.binary())
    return pa.array(raw, storage).view(kind)


KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary()]
KINDS += [pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.binary())]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_table_reports_rows_whose_text_is_not_utf8(tmp_path, kind, suffix):
    table = pa.table({"who": ["a"] * 9, "shop": texts(kind), "amount": np.arange(9.0)})
    file = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, file, row_group_size=5)
    else:
        with pa.ipc.new_file(file, table.schema) as out:
            out.write_table(table)
    with pytest.raises(BadRecordError, match=r"Expected text in UTF-8, found b'K\\xe4se' .*row 5, column 'shop'"):
        Table(file, cache_dir=str(tmp_path / "cache")).download_and_prepare()
    builder = Table(file, cache_dir=str(tmp_path / "cache"), on_bad_record="skip")
    builder.download_and_prepare()
    rows = builder.as_dataset(split="train")
    assert rows["amount"][:] == [0, 1, 2, 3, 5, 7, 8]
    assert [(one.line, one.column) for one in builder.skipped] == [(5, "shop"), (7, "shop")]


@pytest.mark.parametrize("on_bad_record", ["raise", "skip"])
@pytest.mark.parametrize("index", [pa.int8(), pa.int64()], ids=str)
def test_categories_that_arrow_refuses_to_read_are_named_with_their_row(tmp_path, index, on_bad_record):
    kind = pa.dictionary(index, pa.string())
    pq.write_table(pa.table({"who": ["a"] * 9, "shop": texts(kind)}), tmp_path / "rows.parquet", row_group_size=3)
    message = r"found b'K\\xe4se' .*row 5, column 'shop'\). Write the file anew"
    with pytest.raises(ValueError, match=message):
        Table(tmp_path, cache_dir=str(tmp_path / "cache"), on_bad_record=on_bad_record).download_and_prepare()
    with pytest.raises(ValueError, match=message):
        list(iter_records(tmp_path / "rows.parquet", BadRecords(on_bad_record)))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(4)], ids=str)
def test_bytes_in_utf8_are_read_as_text_unless_a_plan_reads_other_columns(tmp_path, kind):
    names = ["Käs".encode(), b"shop", None]
    picture = pa.array([b"\xff\xd8"] * 3)
    pq.write_table(pa.table({"shop": pa.array(names, kind), "picture": picture}), tmp_path / "rows.parquet")
    builder = Table(tmp_path, cache_dir=str(tmp_path / "cache"), used=("shop",))
    builder.download_and_prepare()
    rows = builder.as_dataset(split="train")
    assert rows["shop"][:] == ["Käs", "shop", None] and rows["picture"][:] == [b"\xff\xd8"] * 3
    with pytest.raises(BadRecordError, match=r"found b'\\xff\\xd8' .*row 1, column 'picture'.*or without this column"):
        Table(tmp_path, cache_dir=str(tmp_path / "cache")).download_and_prepare()


def test_a_column_of_bytes_that_is_no_text_is_named():
    table = pa.table({"shop": pa.array([b"a", BROKEN]), "amount": [1.0, 2.0]})
    with pytest.raises(ValueError, match="Expected text in UTF-8 in column 'shop', found binary that is none"):
        TabBertProcessor({"fields": {"shop": {}}}).fit(table)


def test_pictures_and_texts_report_rows_whose_text_is_not_utf8(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    rows = {"text": texts(pa.string(), 300, (260, 270)), "img": ["a.png"] * 300}
    table = pa.table({**rows, "label": [["x", "y"][i % 2] for i in range(300)]})
    pq.write_table(table.set_column(0, "text", table["text"].fill_null("none")), tmp_path / "train.parquet")
    with pytest.raises(BadRecordError, match=r"found b'K\\xe4se' .*row 261, column 'text'"):
        ImageText(tmp_path, cache_dir=str(tmp_path / "cache"))
    found = read_image_text(tmp_path / "train.parquet", cache_dir=str(tmp_path / "cache"), on_bad_record="skip")
    assert len(found.rows) == 298 and [one.line for one in found.skipped] == [261, 271]
