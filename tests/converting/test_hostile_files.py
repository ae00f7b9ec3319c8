"""Malicious, damaged and foreign files: refused with a reason, nothing run, no file written."""

import builtins
import collections
import os
import pickle
import struct
import subprocess
import time
import zipfile
from random import Random

import numpy as np
import pytest
import torch

from hf_mmtab.converting.original_files import read_args, read_encoders, read_vocabulary
from hf_mmtab.converting.pickles import read_pickle
from hf_mmtab.converting.stand_ins import Array, Record, RefusedFileError
from hf_mmtab.converting.torch_files import load_tensors, read_state_dict, read_torch_file


class Calls:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def legacy(pickled: bytes, keys: bytes = pickle.dumps([], 2), storages: bytes = b"") -> bytes:
    """A file in the old format of torch.save around any data pickle."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, system)]
    return b"".join(head) + pickled + keys + storages


def archive(path, pickled: bytes, records=(), compression=zipfile.ZIP_STORED):
    """A file in the new format of torch.save around any data pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", b"3\n")
        for name, content in dict(records).items():
            file.writestr(f"archive/{name}", content)
    return path


def tensor_pickle(size=4, shape=(2, 2), stride=(2, 1), offset=0, kind="FloatStorage", key="0", old=False) -> bytes:
    """Protocol-2 pickle of {"weight": tensor}, every number chosen by hand; `old`: for the format before 1.6."""

    def number(n):
        return pickle.dumps(n, 2)[2:-1]

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    text = [b"X" + struct.pack("<I", len(s)) + s.encode() for s in ("weight", "storage", key, "cpu")]
    storage = b"(" + text[1] + b"ctorch\n" + kind.encode() + b"\n" + text[2] + text[3] + number(size)
    storage += b"NtQ" if old else b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(shape) + numbers(stride)
    return b"\x80\x02}" + text[0] + rebuilt + b"\x89" + hooks + b"tRs."


# A tuple of 60 tuples, each of the one before twice, at place 0 of the memo: its hash takes for ever.
TOWER = b"]()q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"e"


@pytest.fixture
def canary(tmp_path):
    """A file that every attack tries to write."""
    return tmp_path / "canary"


def attacks(canary) -> dict[str, bytes]:
    command = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    shout = b"cos\nsystem\n(X" + struct.pack("<I", len(command)) + command.encode() + b"tR."
    return {
        "os.system": pickle.dumps(Calls(os.system, command), 2),
        "builtins.eval": pickle.dumps(Calls(builtins.eval, code), 4),
        "builtins.exec": pickle.dumps(Calls(builtins.exec, code), 2),
        "open": pickle.dumps(Calls(open, str(canary), "w"), 4),
        "subprocess": pickle.dumps(Calls(subprocess.call, ["touch", str(canary)]), 4),
        "getattr": b"\x80\x02cbuiltins\ngetattr\n(cos\npath\nX\x04\x00\x00\x00joint R.",
        "inside a list": pickle.dumps([1, {"a": (Calls(os.system, command),)}], 4),
        "old text protocol": b"cposix\nsystem\n(S'" + command.encode() + b"'\ntR.",
        "INST": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c"
        + bytes([len(command)])
        + command.encode()
        + b"\x85R.",
        "NEWOBJ_EX": b"\x80\x04cos\nsystem\n)}\x92.",
        "nested reduce": b"\x80\x02ccollections\nOrderedDict\n)R" + b"(X\x01\x00\x00\x00atR.",
        "reduce of a reduce": b"\x80\x02cfunctools\npartial\n(cos\nsystem\ntR" + shout,
        "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        "torch load from bytes": b"\x80\x02ctorch.storage\n_load_from_bytes\n(C\x00tR.",
        "numpy load": b"\x80\x02cnumpy\nload\n(S'x'\ntR.",
        "numpy eval of a dtype": b"\x80\x02cnumpy\ndtype\n(S'(1,)O'\ntR.",
        "__setstate__ on a class": b"\x80\x02cargparse\nNamespace\n}(X\x0c\x00\x00\x00__setstate__"
        b"X\x01\x00\x00\x00aub.",
        "slot state": b"\x80\x02cargparse\nNamespace\n)\x81N}X\x05\x00\x00\x00_bx__K\x01s\x86b.",
        "state of a list": b"\x80\x02]}b.",
        "state of an unfinished name": b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",
        "object with arguments": b"\x80\x02cargparse\nNamespace\n(K\x01t\x81.",
        "object of a function": b"\x80\x02c_codecs\nencode\n)\x81.",
        "extension registry": b"\x80\x02\x82\x01.",
        "persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "persistent id as text": b"Pstorage\n.",
        "append to a dict": b"\x80\x02}K\x01a.",
        "items of a list": b"\x80\x02]K\x01K\x02s.",
        "bytearray": b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.",
        "set": pickle.dumps({1, 2}, 4),
        "values left behind": b"\x80\x02K\x01K\x02.",
        "list that contains itself": b"\x80\x02]q\x00h\x00a.",
        "dict that contains itself": b"\x80\x02}q\x00K\x01]h\x00as.",
        "key that takes for ever": b"\x80\x02" + TOWER + b"}h\x00K\x01s\x86.",
        "keys that take for ever": b"\x80\x02" + TOWER + b"}(h\x00K\x01u\x86.",
        "dict that takes for ever": b"\x80\x02" + TOWER + b"(h\x00K\x01d\x86.",
        "pairs that take for ever": b"\x80\x02" + TOWER + b"ccollections\nOrderedDict\n]h\x00K\x01\x86a\x85R\x86.",
        "counted for ever": b"\x80\x02" + TOWER + b"ccollections\nCounter\n]h\x00a\x85R\x86.",
        "state that takes for ever": b"\x80\x02"
        + TOWER
        + b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__ccollections\nCounter\nsbh\x00\x85b\x86.",
        "text encoded again and again": b"\x80\x02](c_codecs\nencode\nq\x00"
        + b"".join(b"X" + struct.pack("<I", len(text)) + text for text in (b"x" * 100_000, b"latin1"))
        + b"\x86q\x01R"
        + b"h\x00h\x01R" * 100
        + b"e.",
        "set of few": b"\x80\x02cbuiltins\nset\n]K\x01a\x85R.",
        "doubled 90 times": b"\x80\x02](]q\x00" + b"](h\x00h\x00eq\x00" * 90 + b"e.",
        "far memory": b"\x80\x02]r\xff\xff\xff\x7f.",
        "large text of a codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00utf_32\x86R.",
        "deep": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        "absent memo": b"\x80\x02h\x07.",
        "no mark": b"\x80\x02t.",
        "empty stack": b"\x80\x02.",
        "unknown operation": b"\x80\x02\xff.",
        "promised bytes": b"\x80\x04B\xff\xff\xff\x7fabc.",
        "promised text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x00abc.",
        "no end": b"\x80\x02K\x01",
        "copies without end": b"\x80\x02ccollections\nCounter\nq\x00}q\x01("
        + b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(60000))
        + b"u("
        + b"h\x00h\x01\x85R" * 1100
        + b"t\x87.",
        "array that is none": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cargparse\nNamespace\nK\x00\x85tR.",
        "oversized array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01b"
        b"tR(K\x01(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftcnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R\x89C\x08aaaaaaaatb.",
    }


NAMES = list(attacks("x"))


@pytest.mark.parametrize("name", NAMES)
def test_attack_is_refused_in_every_format_and_nothing_happens(name, canary, tmp_path):
    pickled = attacks(canary)[name]
    (tmp_path / "plain.pkl").write_bytes(pickled)
    (tmp_path / "legacy.pt").write_bytes(legacy(pickled))
    archive(tmp_path / "zip.pt", pickled)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RefusedFileError, match=r"^Refused .*plain.pkl"):
        read_pickle(tmp_path / "plain.pkl")
    for file in ("legacy.pt", "zip.pt"):
        with pytest.raises(RefusedFileError, match=rf"^Refused .*{file}"):
            read_torch_file(tmp_path / file)
    assert sorted(tmp_path.iterdir()) == before and not canary.exists()


def test_the_attacks_do_work_where_pickle_opens_them(canary):
    pickle.loads(attacks(canary)["os.system"])
    assert canary.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.system", r"it asks for posix.system, which is not one of the few classes .* Nothing in it was run"),
        ("builtins.eval", "it asks for builtins.eval, which is not one"),
        ("nested reduce", r"it calls a value of type dict with a value of type tuple"),
        ("__setstate__ on a class", "it sets the state of argparse.Namespace to a value of type dict"),
        ("persistent id", "refers to something outside the pickle"),
        ("INST", "its pickle uses INST, which no known checkpoint needs"),
        ("list that contains itself", "one of its containers contains itself"),
        ("deep", "its containers are nested deeper than 100"),
        ("key that takes for ever", "it uses a value of type tuple as the key of a dict"),
        ("state that takes for ever", "it sets the state of a value of type dict to a value of type dict"),
        ("text encoded again and again", "its pickle copies texts or bytes of many times the size of the file"),
        ("doubled 90 times", "its values, which share parts, are too many when written out"),
        ("far memory", "its pickle remembers more values than it has"),
        ("copies without end", "its pickle copies more than 10,000,000 values"),
        ("oversized array", r"an array of shape \(2147483647, 2147483647\) with 1 values"),
        ("no end", "no readable pickle at byte 0"),
    ],
)
def test_the_reason_is_told(name, message, canary, tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(attacks(canary)[name])
    with pytest.raises(RefusedFileError, match=message):
        read_pickle(path)


TENSORS = {
    "larger than the file": ({"size": 10**12}, "claims tensors of 1,000,000,000,000 numbers in a file of"),
    "outside its storage": ({"offset": 1}, "no whole file of torch.save"),
    "endless by stride 0": ({"shape": (2**30,), "stride": (0,)}, "tensors unfold into more than 8 times"),
    "of negative shape": ({"shape": (-2, -2)}, "no whole file of torch.save"),
    "of negative offset": ({"offset": -1}, "no whole file of torch.save"),
    "of negative stride": ({"stride": (-1, -1)}, "no whole file of torch.save"),
    "of unknown type": ({"kind": "UntypedStorage"}, "asks for torch.UntypedStorage"),
    "of another file": ({"key": "../../etc/passwd"}, "no whole file|does not fit"),
}


@pytest.mark.parametrize("name", list(TENSORS))
def test_tensor_is_refused(name, tmp_path):
    changes, message = TENSORS[name]
    content = np.arange(4, dtype=np.float32).tobytes()
    storages = struct.pack("<q", 4) + content
    (tmp_path / "legacy.pt").write_bytes(legacy(tensor_pickle(**changes, old=True), pickle.dumps(["0"], 2), storages))
    archive(tmp_path / "zip.pt", tensor_pickle(**changes), {"data/0": content})
    for file in ("legacy.pt", "zip.pt"):
        with pytest.raises(RefusedFileError, match=message):
            read_torch_file(tmp_path / file)


def test_handmade_tensor_is_read_in_both_formats(tmp_path):
    content = np.arange(4, dtype=np.float32).tobytes()
    (tmp_path / "legacy.pt").write_bytes(
        legacy(tensor_pickle(old=True), pickle.dumps(["0"], 2), struct.pack("<q", 4) + content)
    )
    archive(tmp_path / "zip.pt", tensor_pickle(), {"data/0": content})
    for file in ("legacy.pt", "zip.pt"):
        assert read_state_dict(tmp_path / file)["weight"].tolist() == [[0.0, 1.0], [2.0, 3.0]]


@pytest.mark.parametrize("old", [True, False])
def test_what_torch_saves_comes_back(old, tmp_path):
    base = torch.arange(12, dtype=torch.float64)
    state = {
        "matrix": base.view(3, 4),
        "transposed": base.view(3, 4).T,
        "slice": base[5:7],
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 5),
        "bool": torch.tensor([True, False]),
        "half": torch.randn(3).half(),
        "bfloat": torch.randn(3).bfloat16(),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    nested = {
        "state_dict": state,
        "epoch": 3,
        "name": "run",
        "more": [1.5, None, (True, b"x")],
        "best": np.float64(0.5),
    }
    torch.save(nested, tmp_path / "file.pt", _use_new_zipfile_serialization=not old)
    read = read_torch_file(tmp_path / "file.pt")
    tensors = load_tensors(read["state_dict"], "file.pt")
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor), name
    assert (read["epoch"], read["name"], read["more"], read["best"]) == (3, "run", [1.5, None, (True, b"x")], 0.5)


def test_views_that_unfold_a_file_many_times_over_are_refused(tmp_path):
    one = torch.zeros(1000)
    torch.save([one.view(1000) for _ in range(2)], tmp_path / "twice.pt")
    assert len(read_torch_file(tmp_path / "twice.pt")) == 2
    torch.save([one.view(1000) for _ in range(200)], tmp_path / "often.pt")
    with pytest.raises(RefusedFileError, match="unfold into more than 8 times the size of the file"):
        read_torch_file(tmp_path / "often.pt")


def test_zip_bombs_are_refused(tmp_path):
    bomb = archive(
        tmp_path / "bomb.pt", tensor_pickle(), {"data/0": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED
    )
    assert bomb.stat().st_size < 100_000
    with pytest.raises(RefusedFileError, match=r"is compressed, which torch\.save never does"):
        read_torch_file(bomb)


def test_an_archive_of_very_many_records_is_refused_before_its_directory_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.pt", "w") as file:
        for number in range(40_000):
            file.writestr(f"many/data/{number}", b"")
    with pytest.raises(RefusedFileError, match=r"directory of its archive takes [\d,]+ bytes, more than 2,000,000"):
        read_torch_file(tmp_path / "many.pt")


def test_an_old_file_cut_short_is_said_to_be_truncated(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"a": torch.ones(100_000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(
        RefusedFileError, match=r"100,000 numbers in a file of 4,000 bytes: it is truncated \(copy it again\)"
    ):
        read_torch_file(path)


def test_overlapping_and_repeated_records_are_refused(tmp_path):
    path = archive(tmp_path / "file.pt", tensor_pickle(), {"data/0": bytes(16), "data/1": bytes(5000)})
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    first = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    for field, size in ((20, 4), (24, 4), (42, 4)):  # sizes and place of data/1, given to data/0 too
        content[first + field : first + field + size] = content[directory + field : directory + field + size]
    path.write_bytes(bytes(content))
    with pytest.raises(RefusedFileError, match="records of its archive overlap"):
        read_torch_file(path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "two.pt", "w") as file:
        file.writestr("archive/data.pkl", tensor_pickle())
        file.writestr("archive/data.pkl", b"\x80\x02N.")
    with pytest.raises(RefusedFileError, match="several records of one name"):
        read_torch_file(tmp_path / "two.pt")


@pytest.mark.parametrize("old", [True, False])
def test_a_file_cut_anywhere_is_refused(old, tmp_path):
    torch.save({"state_dict": {"w": torch.randn(50)}}, tmp_path / "whole.pt", _use_new_zipfile_serialization=not old)
    whole = (tmp_path / "whole.pt").read_bytes()
    for cut in [0, 1, 3, 10, 100, len(whole) // 2, len(whole) - 100, len(whole) - 1]:
        (tmp_path / "cut.pt").write_bytes(whole[:cut])
        with pytest.raises(RefusedFileError, match=r"^Refused"):
            read_torch_file(tmp_path / "cut.pt")
    if old:
        with pytest.raises(
            RefusedFileError, match=r"expected 1 more bytes\. .*It is truncated or damaged: copy it again"
        ):
            read_torch_file(tmp_path / "cut.pt")
        (tmp_path / "long.pt").write_bytes(whole + b"more")
        with pytest.raises(RefusedFileError, match="4 bytes follow the last tensor"):
            read_torch_file(tmp_path / "long.pt")


def test_a_flipped_bit_in_a_tensor_is_found(tmp_path):
    torch.save({"w": torch.zeros(50)}, tmp_path / "file.pt")
    content = bytearray((tmp_path / "file.pt").read_bytes())
    place = content.index(bytes(200))
    content[place + 100] ^= 1
    (tmp_path / "file.pt").write_bytes(bytes(content))
    with pytest.raises(RefusedFileError, match="'file/data/0' in it does not have its checksum"):
        read_state_dict(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"<html>not found</html>", "found a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "found a Git LFS pointer"),
        (struct.pack("<Q", 2) + b"{}", "found a safetensors file"),
        (b"hello", "found a file that begins with b'hello'"),
        (pickle.dumps({"a": 1}), "expected a file of torch.save, found another pickle"),
    ],
)
def test_foreign_files_are_named(content, message, tmp_path):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(RefusedFileError, match=message):
        read_torch_file(tmp_path / "file.pt")


def test_other_archives_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "docs.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(RefusedFileError, match=r"expected an archive of torch\.save, found another zip file"):
        read_torch_file(tmp_path / "docs.zip")
    archive(tmp_path / "script.pt", b"\x80\x02N.", {"constants.pkl": b"\x80\x02)."})
    with pytest.raises(RefusedFileError, match="it is a TorchScript program"):
        read_torch_file(tmp_path / "script.pt")
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        read_torch_file(tmp_path / "absent.pt")
    torch.save({"a": [1]}, tmp_path / "values.pt")
    with pytest.raises(RefusedFileError, match="expected a state dict of tensors, found a value of type list"):
        read_state_dict(tmp_path / "values.pt")
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 16)
    with pytest.raises(RefusedFileError, match="no readable safetensors file"):
        read_state_dict(tmp_path / "w.safetensors")


def test_plain_values_and_arrays_come_back(tmp_path):
    values = {
        "order": collections.OrderedDict([("b", 1), ("a", 2)]),
        "counts": collections.Counter("aab"),
        "numbers": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "texts": np.array(["x", None, 3.5], dtype=object),
        "wide": np.array(["ab", "c"]),
        "long": 2**70,
        "float": np.float32(0.5),
        "shared": [(1,)] * 2,
    }
    for protocol in (2, 4):
        (tmp_path / "values.pkl").write_bytes(pickle.dumps(values, protocol))
        read = read_pickle(tmp_path / "values.pkl")
        for name in ("numbers", "fortran", "texts", "wide"):
            array = read.pop(name)
            assert isinstance(array, Array) and np.array_equal(array.values, values[name]), name
        assert list(read["order"]) == ["b", "a"]
        assert read == {name: values[name] for name in read}


def test_golden_files_open_without_the_packages_that_wrote_them(golden):
    run = golden / "mmbt" / "run_dir"
    args = read_torch_file(run / "args.pt")
    assert args.class_name == "argparse.Namespace" and args.attributes["labels"] == ["L0", "L1", "L3", "L2", "L4"]
    vocabulary = args.attributes["vocab"]
    assert isinstance(vocabulary, Record) and vocabulary.attributes["stoi"]["[CLS]"] == 2
    best = read_torch_file(run / "model_best.pt")
    assert len(best["state_dict"]) == 122 and best["best_metric"] == pytest.approx(0.42424242)
    for name in ("output_pretraining_hier", "output_pretraining_flat"):
        path = golden / "tabformer" / name / "checkpoint-500" / "pytorch_model.bin"
        reference = torch.load(path, weights_only=True)
        ours = read_state_dict(path)
        assert set(ours) == set(reference) and all(torch.equal(ours[key], reference[key]) for key in ours)


def test_a_directory_that_two_readers_would_find_in_two_places_is_refused(tmp_path):
    torch.save({"w": torch.zeros(5)}, tmp_path / "file.pt")
    content = bytearray((tmp_path / "file.pt").read_bytes())
    place = len(content) - 22 - 20 + 8  # where the locator says that the large end record is
    content[place : place + 8] = struct.pack("<Q", 64)
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(RefusedFileError, match="does not end with the directory of its records"):
        read_torch_file(tmp_path / "file.pt")
    archive(tmp_path / "case.pt", tensor_pickle(), {"DATA.PKL": b"\x80\x02N."})
    with pytest.raises(RefusedFileError, match="several records of one name"):
        read_torch_file(tmp_path / "case.pt")


def test_an_old_file_that_leaves_out_a_tensor_is_refused(tmp_path):
    storages = struct.pack("<q", 4) + bytes(16)
    for keys in ([], ["0", "1"], ["1"]):
        (tmp_path / "old.pt").write_bytes(legacy(tensor_pickle(old=True), pickle.dumps(keys, 2), storages))
        with pytest.raises(RefusedFileError, match="list of tensor storages does not fit its tensors"):
            read_torch_file(tmp_path / "old.pt")


@pytest.mark.parametrize("name", ["legacy.pt", "zip.pt", "args.pt", "encoder_fit.pkl", "vocab_token2id.bin"])
def test_damaged_files_are_read_or_refused_and_nothing_else(name, golden, tmp_path):
    state = {"state_dict": {"a": torch.ones(3, 4), "b": torch.nn.Parameter(torch.ones(2))}, "n": [1, (2, "x")]}
    source = golden / ("mmbt/run_dir" if name == "args.pt" else "tabformer/vocab20k") / name
    read = {"args.pt": read_args, "encoder_fit.pkl": read_encoders, "vocab_token2id.bin": read_vocabulary}
    if name in ("legacy.pt", "zip.pt"):
        torch.save(state, source := tmp_path / name, _use_new_zipfile_serialization=name == "zip.pt")
    whole, random = source.read_bytes(), Random(0)
    operations = [b"h\x00", b"R", b"b", b"q\x00", b"(", b"}", b"s", b"u", b"a", b"e", b"\x85", b"."]
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(random.choice([1, 2, 4])):
            place = random.randrange(len(content))
            change = random.choice([random.randbytes(1), b"", *random.sample(operations, 2)])
            content[place : place + random.randrange(3)] = change
        (tmp_path / "damaged").write_bytes(content)
        try:
            read.get(name, read_torch_file)(tmp_path / "damaged")
        except ValueError as error:
            assert len(str(error)) < 1000


def _long(number):
    encoded = pickle.encode_long(number)
    return b"\x8a" + bytes([len(encoded)]) + encoded


# Small files over which dicts or this package's own check would take hours, if they took them at all.
QUADRATIC = {
    "keys of one hash": b"}(" + b"".join(_long(n * (2**61 - 1)) + b"N" for n in range(9, 60_000)) + b"u",
    "negative keys of one hash": b"}(" + b"".join(_long(-n * (2**61 - 1)) + b"N" for n in range(9, 60_000)) + b"u",
    "one by one": b"}" + b"".join(_long(n * (2**61 - 1)) + b"Ns" for n in range(9, 60_000)),
    "calls of one long tuple": b"](("
    + b"K\x01" * 300_000
    + b"tq\x01cnumpy\ndtype\nq\x00"
    + b"h\x00h\x01R" * 30_000
    + b"e",
}


@pytest.mark.parametrize("name", QUADRATIC)
def test_small_files_that_take_quadratic_time_are_refused_soon(name, tmp_path):
    pickled = b"\x80\x02" + QUADRATIC[name] + b"."
    started = time.perf_counter()
    (tmp_path / "plain.pkl").write_bytes(pickled)
    with pytest.raises(RefusedFileError, match=r"more than 64 bits as the key|copies more than|300001 were given"):
        read_pickle(tmp_path / "plain.pkl")
    for write in (lambda path: path.write_bytes(legacy(pickled)), lambda path: archive(path, pickled)):
        write(tmp_path / "model.pt")
        with pytest.raises(RefusedFileError):
            read_torch_file(tmp_path / "model.pt")
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("keys", [range(10_000), [n << 40 for n in range(10_000)], [n / 7 for n in range(10_000)]])
def test_many_numbers_as_keys_are_read(keys, tmp_path):
    values = dict.fromkeys(keys, 1)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(values, 2))
    assert read_pickle(tmp_path / "plain.pkl") == values
