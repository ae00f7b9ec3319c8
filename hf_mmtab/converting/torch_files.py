"""Read what `torch.save` wrote, old format and new, by `torch.load(weights_only=True)` with inert stand-ins.

What torch does not look at is checked before: that an archive holds stored records alone, which are in the file and
have their checksums; that an old file names all its tensors and ends where they end; see `pickles` for the rest.
"""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .pickles import check_pickle, load_pickle, require_plain
from .stand_ins import BUILT_IN, STAND_INS, RefusedFileError, refused

# Source: torch/serialization.py, the format of torch.save before 1.6
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
TORCH_NAMES = {
    *STAND_INS,
    *BUILT_IN,
    *(f"torch._utils.{name}" for name in ("_rebuild_tensor_v2", "_rebuild_parameter")),
    *(
        f"{module}.{kind}Storage"
        for module in ("torch", "torch.cuda")
        for kind in ["Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"]
    ),
}
# Of the directory of an archive: 3,000 tensors take about 360,000. Without a limit reading one takes seconds.
MAX_DIRECTORY = 2_000_000


def read_torch_file(path: str | Path) -> Any:
    """Read a file of `torch.save` onto the CPU; objects come as `Record`, numpy scalars as numbers.

    Raises:
        FileNotFoundError: if there is no such file.
        RefusedFileError: if it is of another kind, truncated, damaged, or holds more than tensors, containers and
            the few known classes. Nothing in it was run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a checkpoint file, found nothing at {str(path)!r}.")
    with open(path, "rb") as file:
        head = file.read(64)
        file.seek(0)
        if not head.startswith((b"PK\x03\x04", b"\x80")):
            kind = _looks_like(head)
            what = f"expected a file of torch.save, found {kind}. Pass the checkpoint file of the original"
            raise refused(path, what)
        is_archive = head[:1] == b"P"
        (_check_archive if is_archive else _check_legacy)(path, file)
        file.seek(0)
        value = _load(path, file)
        if not is_archive and (rest := path.stat().st_size - file.tell()):
            raise refused(path, f"{rest:,} bytes follow the last tensor")
    require_plain(value, str(path))
    return value


def load_tensors(value: Any, path: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict that `read_torch_file` gave, each contiguous.

    Raises:
        RefusedFileError: if it is not a mapping of names to tensors.
    """
    if not isinstance(value, Mapping) or not value:
        raise refused(path, f"expected a state dict, found {_described(value)}")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            found = f"{_described(tensor)} under {str(name)[:100]!r}"
            raise refused(path, f"expected a state dict of tensors, found {found}. Another file of the run?")
    return {name: tensor.detach().contiguous() for name, tensor in value.items()}


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a file that is one state dict: `torch.save(model.state_dict())` or safetensors."""
    if Path(path).suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise refused(path, f"no readable safetensors file ({error})") from error
    return load_tensors(read_torch_file(path), path)


def _load(path: Path, file: BinaryIO) -> Any:
    known: list[Any] = [(stand_in, name) for name, stand_in in STAND_INS.items()]
    try:
        with torch.serialization.safe_globals(known):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch raise
        # torch's text on what it does not know advises to switch the safety off
        reason = "" if isinstance(error, pickle.UnpicklingError) else f" ({str(error)[:200].rstrip('.')})"
        what = f"no whole file of torch.save{reason}. It is truncated or damaged: copy it again"
        raise refused(path, what) from error


def _check_legacy(path: Path, file: BinaryIO) -> None:
    """Check five pickles, which the contents of the tensors follow."""
    if load_pickle(file, str(path)) != LEGACY_MAGIC:
        raise refused(path, "expected a file of torch.save, found another pickle")
    if load_pickle(file, str(path)) != LEGACY_PROTOCOL:
        raise refused(path, "it has another version of torch.save's old format than 1001")
    system = load_pickle(file, str(path))
    if type(system) is not dict or system.get("little_endian") is not True:
        raise refused(path, "it was written on a big-endian machine, or does not say on which")
    storages: dict[Any, int] = {}
    check_pickle(file, str(path), TORCH_NAMES, storages)
    keys = load_pickle(file, str(path))
    if type(keys) is not list or sorted(map(str, keys)) != sorted(storages):
        raise refused(path, "its list of tensor storages does not fit its tensors")


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Check the records of a zip archive, and the one that is a pickle."""
    size = path.stat().st_size
    _check_directory(path, file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            for member in members:
                if member.compress_type or member.file_size != member.compress_size or member.flag_bits & 1:
                    what = "is compressed, which torch.save never does: it could unfold into any size"
                    raise refused(path, f"{member.filename[:100]!r} in it {what}")
            names = {member.filename.lower() for member in members}  # torch finds records in any case
            if len(names) != len(members):
                raise refused(path, "its archive has several records of one name")
            if sum(member.file_size for member in members) > size:
                raise refused(path, "the records of its archive overlap")
            root = members[0].filename.split("/")[0] if members else ""
            if f"{root}/data.pkl" not in {member.filename for member in members}:
                raise refused(path, "expected an archive of torch.save, found another zip file")
            if f"{root}/constants.pkl" in names:
                raise refused(path, "it is a TorchScript program, not a checkpoint")
            if (damaged := archive.testzip()) is not None:
                raise refused(path, f"{damaged!r} in it does not have its checksum: copy the file again")
            content = archive.read(f"{root}/data.pkl")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError) as error:
        if isinstance(error, RefusedFileError):
            raise
        what = f"no readable archive of torch.save ({error}). It is truncated or damaged: copy it again"
        raise refused(path, what) from error
    check_pickle(io.BytesIO(content), str(path), TORCH_NAMES, {})


def _check_directory(path: Path, file: BinaryIO, size: int) -> None:
    """Check that the directory of an archive is short, and where every reader of archives finds it."""
    # Source: PKWARE APPNOTE 4.3.14 to 4.3.16: the end record is last; a longer one for large archives before it.
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    end, locator, large = tail[-22:], tail[-42:-22], tail[:-42]
    length = int.from_bytes(end[12:16], "little")
    is_large = locator[:4] == b"PK\x06\x07"
    if is_large:
        length = max(length, int.from_bytes(large[40:48], "little"))
    right = large[:4] == b"PK\x06\x06" and int.from_bytes(locator[8:16], "little") == size - 98
    misplaced = is_large and not right
    if end[:4] != b"PK\x05\x06" or end[-2:] != b"\0\0" or misplaced:
        what = "no readable archive of torch.save (it does not end with the directory of its records)"
        raise refused(path, f"{what}. It is truncated or damaged: copy it again")
    if length > MAX_DIRECTORY:
        what = f"the directory of its archive takes {length:,} bytes, more than {MAX_DIRECTORY:,}"
        raise refused(path, f"{what}: no checkpoint has that many records")


def _looks_like(head: bytes) -> str:
    if not head:
        return "an empty file"
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
