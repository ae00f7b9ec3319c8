"""Tables on a store that fsspec reaches, and the pieces that files are read in."""

import gzip
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_mmtab.commands.outputs import check_output
from hf_mmtab.data.reading.places import RemotePath, place_of
from hf_mmtab.data.reading.records import BadRecords
from hf_mmtab.data.table import Table
from hf_mmtab.locking import refuse_file

TABLE = pa.table({"who": [f"w{i % 3}" for i in range(10)], "n": list(range(10))})


@pytest.fixture
def store():
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True) if files.exists("/") else None


def put(store, name, content):
    with store.open(name, "wb") as file:
        file.write(content)


def written(kind):
    sink = pa.BufferOutputStream()
    if kind == "parquet":
        pq.write_table(TABLE, sink, row_group_size=4)
    elif kind == "arrow":
        with pa.ipc.new_file(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    else:
        text = "who,n\n" + "".join(f"w{i % 3},{i}\n" for i in range(10))
        return gzip.compress(text.encode()) if kind == "csv.gz" else text.encode()
    return sink.getvalue().to_pybytes()


def read(place, rows=None):
    table = Table(place)
    bad = BadRecords()
    return pa.concat_tables([one for piece in table.pieces(rows) for one in table.read(piece, bad)]), bad


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "csv.gz"])
def test_files_on_a_store_are_read_as_those_of_this_machine(store, tmp_path, kind):
    put(store, f"/bucket/a/one.{kind}", written(kind))
    put(store, "/bucket/a/_SUCCESS", b"")
    (tmp_path / f"one.{kind}").write_bytes(written(kind))

    found, bad = read("memory://bucket/a")
    expected, _ = read(tmp_path)

    assert found.equals(expected) and found.num_rows == bad.rows_read == 10
    assert read(f"memory://bucket/a/one.{kind}")[0].equals(expected)
    assert read(f"file://{tmp_path}")[0].equals(expected)


def test_a_builder_reads_a_store_into_its_cache(store, tmp_path):
    put(store, "/bucket/one.parquet", written("parquet"))
    builder = Table("memory://bucket", cache_dir=str(tmp_path))
    builder.download_and_prepare()

    assert builder.as_dataset(split="train")["n"][:] == list(range(10))


def test_another_content_under_the_same_name_is_another_table(store):
    put(store, "/bucket/one.csv", b"n\n1\n")
    before = Table("memory://bucket")._get_dataset_fingerprint(datasets.Split.TRAIN)
    put(store, "/bucket/one.csv", b"n\n2\n3\n")

    assert Table("memory://bucket")._get_dataset_fingerprint(datasets.Split.TRAIN) != before


def test_an_empty_store_is_named(store):
    put(store, "/bucket/readme.md", b"")

    with pytest.raises(FileNotFoundError, match="found none at 'memory://bucket'"):
        Table("memory://bucket")
    with pytest.raises(ValueError, match="Expected a store that fsspec can reach, found 'nostore://x'"):
        Table("nostore://x")


@pytest.mark.parametrize("method", ["info", "ls", "open"])
def test_a_store_that_does_not_answer_is_named(store, monkeypatch, method):
    class EndpointConnectionError(Exception):  # as botocore's, which is no OSError
        pass

    def no_answer(*args, **kwargs):
        raise EndpointConnectionError("Could not connect\nat all")

    put(store, "/bucket/one.csv", b"n\n1\n")
    monkeypatch.setattr(type(store), method, no_answer)
    place = RemotePath("memory://bucket" if method == "ls" else "memory://bucket/one.csv")
    asked = {"info": [place.stat, place.exists, place.is_file], "ls": [place.files], "open": [place.open]}
    for ask in asked[method]:
        with pytest.raises(
            OSError, match=r"answers at 'memory://bucket.*EndpointConnectionError: Could not connect at all\. Check"
        ):
            ask()


@pytest.mark.parametrize("out", ["s3://bucket/out", Path("s3://bucket/out"), "hf://datasets/a/b.parquet"])
def test_an_address_is_no_output(out):
    with pytest.raises(ValueError, match="Expected an output on this machine"):
        check_output(out, [])
    with pytest.raises(ValueError, match="Expected an output on this machine"):
        refuse_file(Path(out))


def test_row_groups_are_read_apart_with_the_numbers_of_their_rows(tmp_path):
    whole = TABLE.append_column("t", pa.array([b"fine"] * 9 + [b"\xff"]).cast(pa.binary()).view(pa.string()))
    pq.write_table(whole, tmp_path / "one.parquet", row_group_size=4)
    table = Table(tmp_path, on_bad_record="skip")
    pieces = table.pieces(rows=5)
    bad = BadRecords("skip")

    rows = [sum(one.num_rows for one in table.read(piece, bad)) for piece in pieces]

    assert [piece.groups for piece in pieces] == [(0, 1), (1, 2), (2, 3)] and rows == [4, 4, 1]
    assert [(record.line, record.column) for record in bad.records] == [(10, "t")]
    assert [piece.groups for piece in table.pieces(rows=100)] == [(0, 3)]


def test_places_are_urls_or_paths(tmp_path):
    assert place_of("s3://bucket/folder/") == RemotePath("s3://bucket/folder/")
    assert place_of("s3://bucket/folder/").name == "folder" and str(place_of("s3://b/c").parent) == "s3://b"
    assert place_of(tmp_path) == tmp_path.resolve()
