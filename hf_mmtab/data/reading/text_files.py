"""Text files opened for reading bytes, through gzip if named so, with files of another kind refused by name."""

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from .places import Place

# First bytes of files that are often renamed to .csv or .jsonl: what they are, and what to do.
OTHER_KINDS = {
    b"\xff\xfe": ("UTF-16 text", "Save it as UTF-8."),
    b"\xfe\xff": ("UTF-16 text", "Save it as UTF-8."),
    b"PK\x03\x04": ("a zip archive (such as an .xlsx file)", "Unpack it, or export the sheet as CSV in UTF-8."),
    b"\xd0\xcf\x11\xe0": ("an old Office document (such as an .xls file)", "Export the sheet as CSV in UTF-8."),
    b"\x1f\x8b": ("a gzip file", "Add .gz to its name."),
    b"PAR1": ("a Parquet file", "Rename it to .parquet."),
}


class WholeGzip(gzip.GzipFile):
    """A gzip file whose damage is an error that names the file."""

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged(error) from error

    def readline(self, size: int | None = -1) -> bytes:
        try:
            return super().readline(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(
            f"Expected a whole gzip file, found {str(self.name)!r}, which cannot be read to its end ({error}). "
            "Copy or write it anew."
        )


def open_bytes(path: Place) -> BinaryIO:
    """Open a text file for reading bytes from its start, through gzip if its name ends in .gz.

    Raises:
        ValueError: if the file begins like an archive, an Office document or UTF-16 text, or the gzip file is damaged.
    """
    is_gzip = path.name.lower().endswith(".gz")
    file: Any = WholeGzip(str(path), "rb", fileobj=_fileobj(path)) if is_gzip else path.open("rb")
    try:
        start = file.read(4)
        for magic, (kind, remedy) in OTHER_KINDS.items():
            if start.startswith(magic):
                raise ValueError(f"Expected text in UTF-8, found {kind} in {str(path)!r}. {remedy}")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return cast(BinaryIO, file)


def _fileobj(path: Place) -> Any:
    return None if isinstance(path, Path) else path.open("rb")


def is_utf8(text: bytes) -> bool:
    """Whether bytes can be decoded."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def separator_of(path: Place) -> str:
    """Return what parts the cells of a CSV file, by its name."""
    return "\t" if ".tsv" in path.name.lower() else ","
