"""Read what `torch.save` wrote, old format and new, without unpickling it: see `safe_pickle`."""

import mmap
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .safe_pickle import Unpickler, open_mapped
from .safe_values import Global, RefusedFileError

# Source: torch/serialization.py, the format of torch.save before 1.6
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_STORAGE_NAMES = frozenset((module, name) for module in ("torch", "torch.cuda") for name in _STORAGES)
# Of the directory of an archive: 3,000 tensors take about 360,000. Without a limit reading one takes seconds.
MAX_DIRECTORY = 2_000_000
# Tied tensors appear several times; beyond this a file unfolds into far more than it holds.
MAX_UNFOLDING = 8


@dataclass
class _Storage:
    dtype: torch.dtype
    size: int  # elements
    start: int = -1  # first byte in the file; -1: not found yet
    checksum: int | None = None


@dataclass
class StoredTensor:
    """A tensor that still lies in its file; `load` copies it."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    path: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=object)) if self.shape else 1

    def load(self) -> torch.Tensor:
        """Copy the tensor into memory.

        Raises:
            RefusedFileError: if the bytes do not have their checksum.
        """
        if not self.numel:
            return torch.empty(self.shape, dtype=self.storage.dtype)
        length = self.storage.size * self.storage.dtype.itemsize
        with open_mapped(self.path) as mapped:
            content = bytearray(mapped[self.storage.start : self.storage.start + length])
        if self.storage.checksum is not None and zlib.crc32(content) != self.storage.checksum:
            raise RefusedFileError(
                f"Refused {self.path!r}: a tensor does not have its checksum. The file is damaged; copy it again."
            )
        flat = torch.frombuffer(content, dtype=self.storage.dtype)
        return flat.as_strided(self.shape, self.stride, self.offset).clone(
            memory_format=torch.contiguous_format
        )


def read_torch_file(path: str | Path) -> Any:
    """Read a file of `torch.save`; tensors come as `StoredTensor`, everything else as in `read_pickle`.

    Raises:
        FileNotFoundError: if there is no such file.
        RefusedFileError: if it is of another kind, truncated, damaged, or holds more than tensors, containers and
            the few known classes. Nothing in it was run.
    """
    path = Path(path)
    with open_mapped(path) as mapped:
        head = mapped.read(64)
    if head[:4] == b"PK\x03\x04":
        value = _Archive(path).read()
    elif head[:1] == b"\x80":
        value = _Legacy(path).read()
    else:
        raise RefusedFileError(
            f"Refused {str(path)!r}: expected a file of torch.save, found {_looks_like(head)}. "
            "Pass the checkpoint file of the original."
        )
    return value


def load_tensors(value: Any, path: str | Path) -> dict[str, torch.Tensor]:
    """Load a state dict that `read_torch_file` gave.

    Raises:
        RefusedFileError: if it is not a mapping of names to tensors.
    """
    if not isinstance(value, Mapping) or not value:
        raise RefusedFileError(f"Refused {str(path)!r}: expected a state dict, found {_described(value)}.")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise RefusedFileError(
                f"Refused {str(path)!r}: expected a state dict of tensors, found {_described(tensor)} under "
                f"{name!r}. Is it another file of the run?"
            )
    return {name: tensor.load() for name, tensor in value.items()}


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a file that is one state dict: `torch.save(model.state_dict())` or safetensors."""
    if Path(path).suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise RefusedFileError(
                f"Refused {str(path)!r}: no readable safetensors file ({error})."
            ) from error
    return load_tensors(read_torch_file(path), path)


class _Tensors:
    """What the two formats share: storages by key, and tensors that must lie inside them."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = str(path), path.stat().st_size
        self.storages: dict[str, _Storage] = {}
        self.unfolded = 0

    def refuse(self, what: str) -> RefusedFileError:
        return RefusedFileError(f"Refused {self.path!r}: {what}. Nothing in it was run.")

    def unpickler(self, stream: mmap.mmap) -> Unpickler:
        functions: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): self.tensor,
            ("torch._utils", "_rebuild_parameter"): self.parameter,
        }
        return Unpickler(stream, self.path, functions, _STORAGE_NAMES, self.storage)

    def storage(self, identifier: Any) -> _Storage:
        """Note a storage that the pickle refers to."""
        if type(identifier) is not tuple or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise self.refuse("it refers to something that is not the storage of a tensor")
        _, kind, key, _, size, *view = identifier
        known = type(kind) is Global and (kind.module, kind.name) in _STORAGE_NAMES
        if not known or type(key) is not str or type(size) is not int or size < 0 or view not in ([], [None]):
            raise self.refuse("it has a malformed storage of a tensor")
        dtype = _STORAGES[kind.name]
        if size * dtype.itemsize > self.size:
            raise self.refuse(
                f"it claims a tensor storage of {size * dtype.itemsize:,} bytes in a file of {self.size:,}: it is "
                "truncated (copy it again), or was made to claim that"
            )
        found = self.storages.setdefault(key, _Storage(dtype, size))
        if (found.dtype, found.size) != (dtype, size):
            raise self.refuse(f"it describes the tensor storage {key!r} in two ways")
        return found

    def tensor(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        stride: Any,
        grad: Any = False,
        hooks: Any = None,
        *_: Any,
    ) -> StoredTensor:
        if type(storage) is not _Storage or type(shape) is not tuple or type(stride) is not tuple:
            raise self.refuse("it has a tensor without a storage, shape and stride")
        numbers = (offset, *shape, *stride)
        if len(shape) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
            raise self.refuse(f"it has a tensor of impossible shape {shape} and stride {stride}")
        if hooks:
            raise self.refuse("it has a tensor with hooks")
        made = StoredTensor(storage, offset, shape, stride, self.path)
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if made.numel and (last >= storage.size or made.numel > storage.size):
            raise self.refuse(
                f"it claims a tensor of shape {shape} in a storage of {storage.size:,} elements"
            )
        self.unfolded += made.numel * storage.dtype.itemsize
        if self.unfolded > MAX_UNFOLDING * self.size:
            raise self.refuse(f"its tensors unfold into more than {MAX_UNFOLDING} times the size of the file")
        return made

    def parameter(self, tensor: Any, grad: Any, hooks: Any) -> StoredTensor:
        if type(tensor) is not StoredTensor or hooks:
            raise self.refuse("it has a malformed parameter")
        return tensor


class _Legacy(_Tensors):
    """Five pickles, then the storages one after the other."""

    def read(self) -> Any:
        with open_mapped(self.path) as stream:
            machine = self.unpickler(stream)
            if machine.load() != LEGACY_MAGIC:
                raise self.refuse("expected a file of torch.save, found another pickle")
            if machine.load() != LEGACY_PROTOCOL:
                raise self.refuse("it has another version of torch.save's old format than 1001")
            system = machine.load()
            if type(system) is not dict or system.get("little_endian") is not True:
                raise self.refuse("it was written on a big-endian machine, or does not say on which")
            value, keys = machine.load(), machine.load()
            if type(keys) is not list or sorted(map(str, keys)) != sorted(self.storages):
                raise self.refuse("its list of tensor storages does not fit its tensors")
            position = stream.tell()
            for key in keys:
                position = self._place(self.storages[key], position, stream)
        if position != self.size:
            raise self.refuse(f"{self.size - position:,} bytes follow the last tensor")
        return value

    def _place(self, storage: _Storage, position: int, stream: mmap.mmap) -> int:
        count = stream[position : position + 8]
        end = position + 8 + storage.size * storage.dtype.itemsize
        if len(count) == 8 and int.from_bytes(count, "little") != storage.size:
            raise self.refuse("the size of a tensor storage differs from what its pickle says")
        if len(count) < 8 or end > self.size:
            raise RefusedFileError(
                f"Refused {self.path!r}: it ends at least {end - self.size:,} bytes early, within its tensors. "
                "The file is truncated; copy it again."
            )
        storage.start = position + 8
        return end


class _Archive(_Tensors):
    """A zip archive: one pickle, and a record for each storage, none of them compressed."""

    def read(self) -> Any:
        if (length := self._directory_length()) > MAX_DIRECTORY:
            raise self.refuse(
                f"the directory of its archive takes {length:,} bytes, more than {MAX_DIRECTORY:,}: no checkpoint has "
                "that many records"
            )
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise RefusedFileError(
                f"Refused {self.path!r}: no readable archive of torch.save ({error}). "
                "The file is truncated or damaged; copy it again."
            ) from error
        records = {member.filename: member for member in members}
        self._check(members, records)
        root = self._root(records)
        if f"{root}byteorder" in records and self._content(records[f"{root}byteorder"], 16) != b"little":
            raise self.refuse("it was written on a big-endian machine")
        pickled = records[f"{root}data.pkl"]
        with open_mapped(self.path) as stream:
            stream.seek(self._start(pickled))
            value = self.unpickler(stream).load()
        for key, storage in self.storages.items():
            record = records.get(f"{root}data/{key}")
            if record is None or record.file_size != storage.size * storage.dtype.itemsize:
                raise self.refuse(
                    f"the tensor storage {key!r} is missing or has another size than its pickle says"
                )
            storage.start, storage.checksum = self._start(record), record.CRC
        return value

    def _directory_length(self) -> int:
        """Return the length of the central directory as zipfile will read it; 0 if there is none."""
        # Source: PKWARE APPNOTE 4.3.14 to 4.3.16: the end record is last; a longer one for large archives before it.
        with open(self.path, "rb") as file:
            file.seek(max(0, self.size - 22 - 20 - 56))
            tail = file.read()
        end, large = tail[-22:], tail[:-42]
        if end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0":
            raise RefusedFileError(
                f"Refused {self.path!r}: no readable archive of torch.save (it does not end with the directory of its "
                "records). The file is truncated or damaged; copy it again."
            )
        length = int.from_bytes(end[12:16], "little")
        if tail[-42:-38] == b"PK\x06\x07" and large[:4] == b"PK\x06\x06":
            length = max(length, int.from_bytes(large[40:48], "little"))
        return length

    def _check(self, members: list[zipfile.ZipInfo], records: Mapping[str, zipfile.ZipInfo]) -> None:
        if len(records) != len(members):
            raise self.refuse("its archive has several records of one name")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise self.refuse(
                    f"{member.filename!r} in it is compressed, which torch.save never does: it could unfold into "
                    "any size"
                )
            if member.flag_bits & 1:
                raise self.refuse(f"{member.filename!r} in it is encrypted")
        if sum(member.file_size for member in members) > self.size:
            raise self.refuse("the records of its archive overlap")

    def _root(self, records: Mapping[str, zipfile.ZipInfo]) -> str:
        roots = [name.removesuffix("data.pkl") for name in records if name.count("/") == 1]
        roots = [root for root in roots if f"{root}data.pkl" in records and root.endswith("/")]
        if len(roots) != 1:
            raise self.refuse("expected an archive of torch.save, found another zip file")
        if f"{roots[0]}constants.pkl" in records:
            raise self.refuse("it is a TorchScript program, not a checkpoint")
        return roots[0]

    def _start(self, member: zipfile.ZipInfo) -> int:
        """Return the first byte of a record's content, past its local header."""
        with open(self.path, "rb") as file:
            file.seek(member.header_offset)
            header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise self.refuse(f"the record {member.filename!r} of its archive is damaged")
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        start = member.header_offset + 30 + name + extra
        if start + member.file_size > self.size:
            raise self.refuse(
                f"the record {member.filename!r} of its archive reaches past the end of the file"
            )
        return start

    def _content(self, member: zipfile.ZipInfo, most: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self._start(member))
            return file.read(min(member.file_size, most))


def _looks_like(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (run `git lfs pull`)"
    if head.lstrip()[:1] == b"<":
        return "a web page (the download failed)"
    if head[8:9] == b"{":
        return "a safetensors file"
    return f"a file that begins with {head[:8]!r}"


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with {sorted(map(str, value))[:5]}"
    return f"a value of type {type(value).__name__}"
