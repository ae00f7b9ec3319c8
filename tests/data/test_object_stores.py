"""Tables on Google Cloud Storage and S3, by gcsfs and s3fs, from a stand-in for both on the loopback interface."""

import asyncio
import sys

import fsspec
import pyarrow.parquet as pq
import pytest
from object_stores import CLOSED, LOCKED, ObjectStores
from prepared_tables import arguments, events, expect_rows_of_one_machine, prepared, rows_of

from hf_mmtab.commands import prepare, pretrain
from hf_mmtab.commands.console import run
from hf_mmtab.data.reading.places import RemotePath, StoreError
from hf_mmtab.data.reading.records import BadRecordError, BadRecords
from hf_mmtab.data.table import Table

PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}


@pytest.fixture
def stores(monkeypatch, tmp_path):
    with ObjectStores() as served:
        for name, value in {**served.environment(), "HOME": str(tmp_path), "AWS_MAX_ATTEMPTS": "1"}.items():
            monkeypatch.setenv(name, value)
        yield served


@pytest.fixture(params=PACKAGES)
def protocol(request, stores):
    pytest.importorskip(PACKAGES[request.param], reason="needs the stores: pip install 'hf-mmtab[stores]'")
    kind = fsspec.get_filesystem_class(request.param)
    kind.clear_instance_cache()  # it keeps the address of its server
    yield request.param
    kind.clear_instance_cache()


def put_parts(stores, folder, parts=3):
    """Write a table into files here and into objects there."""
    table = events()
    size = -(-table.num_rows // parts)
    for part in range(parts):
        file = folder / f"{part}.parquet"
        pq.write_table(table.slice(part * size, size), file, row_group_size=40)
        stores.buckets.setdefault("bank", {})[f"cards/{file.name}"] = file.read_bytes()


def test_a_table_in_a_bucket_is_prepared_as_one_on_this_machine(stores, protocol, tmp_path):
    (tmp_path / "cards").mkdir()
    put_parts(stores, tmp_path / "cards")
    stores.buckets["bank"] |= {"cards/_SUCCESS": b"", "cards/2023/old.parquet": b"of a subfolder"}
    data = arguments(f"{protocol}://bank/cards")
    made = prepared(data, tmp_path / "rows", shards=3)

    assert made.facts["rows"] == events().num_rows and len(made.facts["shards"]) == 3
    prepared(arguments(tmp_path / "cards"), tmp_path / "local", shards=3)
    assert rows_of(tmp_path / "rows")[1].equals(rows_of(tmp_path / "local")[1])
    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole")


def test_objects_that_were_added_are_seen_by_the_same_process(stores, protocol):
    stores.buckets["bank"] = {"cards/0.csv": b"n\n1\n"}
    Table(f"{protocol}://bank/cards")
    stores.buckets["bank"]["cards/1.csv"] = b"n\n2\n"
    assert len(Table(f"{protocol}://bank/cards").pieces()) == 2


def test_a_bad_cell_in_a_bucket_is_named_and_counted(stores, protocol, tmp_path):
    lines = ["who,when,shop,price,bad"] + [f"w{i % 3},2024-01-{i + 1:02},s{i % 4},{i},no" for i in range(20)]
    stores.buckets["bank"] = {"a/0.csv": "\n".join(lines).encode()}
    stores.buckets["bank"]["a/1.csv"] = "\n".join([*lines, "w1,2024-02-01,s1,cheap,no"]).encode()
    data = f"{protocol}://bank/a"
    with pytest.raises(BadRecordError, match=rf"found 'cheap' \('{data}/1.csv', line 22, column 'price'\)"):
        prepared(arguments(data), tmp_path / "rows")

    assert prepared(arguments(data, on_bad_record="skip"), tmp_path / "rows").facts["left_out"] == 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("bank/nothing", "Expected a table, or a folder of files .* found none at '{}'"),
        ("absent/cards", "Expected a table, or a folder of files .* found none at '{}'"),
        (f"{CLOSED}/cards.csv", "Expected a store that answers at '{}', found .*Forbidden.* Check address, network"),
        (f"{CLOSED}/cards", "Expected a store that answers at '{}', found .*Forbidden.* Check address, network"),
        (f"{LOCKED}/cards", "Expected a store that answers at '{}', found .*401.* Check address, network and"),
    ],
)
def test_what_a_store_refuses_is_one_sentence(stores, protocol, caplog, place, message):
    stores.buckets["bank"] = {"cards/0.csv": b"who\nw1\n"}
    url = f"{protocol}://{place}"
    with pytest.raises(OSError, match=message.format(url)):
        Table(url)
    assert not [one for one in caplog.records if one.exc_info]  # tracebacks of gcsfs


def test_a_store_that_is_gone_is_named(stores, protocol, monkeypatch):
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _, *more: sleep(0, *more))  # gcsfs tries for half a minute
    stores.close()
    with pytest.raises(StoreError, match=f"answers at '{protocol}://bank/cards', .* Check address, network"):
        Table(f"{protocol}://bank/cards")


@pytest.mark.parametrize(("protocol", "package"), [("gs", "gcsfs"), ("gcs", "gcsfs"), ("s3", "s3fs"), ("abfs", "")])
def test_the_package_of_a_store_is_named(monkeypatch, tmp_path, capsys, protocol, package):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    monkeypatch.setitem(sys.modules, package or "adlfs", None)
    remedy = r'pip install "hf-mmtab[stores]"`, or ' + package if package else "adlfs"
    with pytest.raises(SystemExit):
        run(prepare.main, ["simulated_cards_next_row_pretrain", "--simulate", "null", "--data", f"{protocol}://b/c"])

    told = capsys.readouterr().err
    assert f"Expected the package {package}" in told and remedy in told and "Traceback" not in told


def test_the_hub_offline_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StoreError, match=r"at .hf://datasets/acme/cards., found OfflineModeIsEnabled: .*OFFLINE"):
        Table("hf://datasets/acme/cards")


def test_a_store_that_stops_while_it_is_read_is_named(monkeypatch):
    class ClientPayloadError(Exception):  # as aiohttp's
        pass

    store = fsspec.filesystem("memory")
    for name in ("one.csv", "one.parquet"):
        with store.open(f"/bucket/{name}", "wb") as file:
            file.write(b"n\n1\n") if name == "one.csv" else pq.write_table(events().select(["price"]), file)
    tables = [Table("memory://bucket/one.csv"), Table("memory://bucket/one.parquet")]
    broken = RemotePath("memory://bucket/one.csv").open()

    def cut(self, *args):
        raise ClientPayloadError("Response payload is not completed")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", cut, raising=False)
    for read in [broken.read, *(lambda t=t: list(t.read(t.pieces()[0], BadRecords())) for t in tables)]:
        with pytest.raises(StoreError, match=r"answers at 'memory://bucket/one\.\w+', found ClientPayloadError: Resp"):
            read()
    store.rm("/bucket", recursive=True)


def test_encoded_rows_lie_on_this_machine(tmp_path):
    with pytest.raises(ValueError, match="Expected encoded rows on this machine, found the address 'gs://bank/rows'"):
        pretrain.main(["simulated_cards_next_row_pretrain", "--rows", "gs://bank/rows", "--output_dir", str(tmp_path)])
