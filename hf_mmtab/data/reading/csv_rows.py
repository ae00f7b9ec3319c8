"""Where the rows of a block of CSV bytes begin and end: at the line ends that no quotes enclose."""

import csv
from dataclasses import dataclass

import numpy as np

from .text_files import is_utf8

LONGEST_ROW = 2**25  # bytes; a quote that stays open for longer is one that is never closed
MAX_FIELD = 2**31 - 1  # characters of one cell; the csv module's default of 131,072 is less than a long text
NEWLINE, RETURN, QUOTE = b'\n\r"'


@dataclass(frozen=True)
class Rows:
    """The rows of a block.

    Attributes:
        block: the bytes.
        starts: offset of each row, and the one behind the last row, shape `(rows + 1,)`.
        lines: line of the block on which each row begins, from 0, and the one behind the last row, shape `(rows + 1,)`.
        broken: row → why it is no CSV row. It ends where its first line ends.
    """

    block: bytes
    starts: np.ndarray
    lines: np.ndarray
    broken: dict[int, str]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.block[self.starts[row] : self.starts[row + 1]]

    @property
    def empty(self) -> np.ndarray:
        """Which rows are nothing but a line end, shape `(rows,)`."""
        sizes = np.diff(self.starts)
        first = np.frombuffer(self.block, dtype=np.uint8)[self.starts[:-1]]
        return (sizes == 1) | ((sizes == 2) & (first == RETURN))

    @property
    def not_utf8(self) -> list[int]:
        """The rows that are not UTF-8."""
        if is_utf8(self.block[: self.starts[-1]]):
            return []
        return [row for row in range(len(self)) if not is_utf8(self[row])]


def find_rows(block: bytes, separator: str, final: bool) -> Rows:
    """Return the whole rows of a block that begins with a row.

    Lines end in \\n, \\r\\n, or \\r alone.

    Args:
        final: whether the file ends with the block; else its last row may go on behind it.
    """
    data = np.frombuffer(block, dtype=np.uint8)
    line_ends = _line_ends(block, data, final)
    row_ends = np.arange(len(line_ends))
    if b'"' in block:
        quotes = _places(data, QUOTE)
        row_ends = np.flatnonzero(np.searchsorted(quotes, line_ends) % 2 == 0)
        last = int(line_ends[row_ends[-1]]) if len(row_ends) else 0
        stays_open = len(quotes) % 2 == 1 and (final or len(block) - last > LONGEST_ROW)
        if stays_open or not _quotes_are_regular(data, quotes, separator):
            return _walk(block, separator, final)
    return Rows(block, np.append(0, line_ends[row_ends]), np.append(0, row_ends + 1), {})


def _line_ends(block: bytes, data: np.ndarray, final: bool) -> np.ndarray:
    """Return the offset behind each line end."""
    ends = _places(data, NEWLINE) + 1
    if b"\r" not in block:
        return ends
    following = np.append(data[1:], 0 if final else NEWLINE)  # behind the block there may be the line feed
    returns = _places(data, RETURN)
    return np.sort(np.append(ends, returns[following[returns] != NEWLINE] + 1))


def _places(data: np.ndarray, byte: int) -> np.ndarray:
    """Return the offsets of a byte; by pieces that stay in the processor's cache."""
    size = 2**16
    pieces = [np.flatnonzero(data[i : i + size] == byte) + i for i in range(0, len(data), size)]
    return np.concatenate(pieces) if pieces else np.arange(0)


def _quotes_are_regular(data: np.ndarray, quotes: np.ndarray, separator: str) -> bool:
    """Whether quotes stand around whole cells only, so that every second one closes a cell.

    Within a quoted cell a doubled quote closes and opens again.
    """
    around = np.zeros(256, dtype=bool)
    around[[NEWLINE, RETURN, QUOTE, ord(separator)]] = True
    data = np.concatenate(([np.uint8(NEWLINE)], data, [np.uint8(NEWLINE)]))
    before, behind = data[quotes[::2]], data[quotes[1::2] + 2]
    return bool(around[before].all() and around[behind].all())


def _walk(block: bytes, separator: str, final: bool) -> Rows:
    """Find the rows of a block one by one, where a quote stands within a cell or does not close."""
    lines = block.splitlines(keepends=True)  # of bytes: at \n, \r and \r\n only
    if not final and lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # it goes on behind the block
    texts = [line.decode("latin-1") for line in lines]
    csv.field_size_limit(MAX_FIELD)
    first, firsts = 0, [0]
    broken: dict[int, str] = {}
    while first < len(texts):
        done = first
        reader = csv.reader(map(texts.__getitem__, range(done, len(texts))), delimiter=separator, strict=True)
        try:
            for _ in reader:
                first = done + reader.line_num
                firsts.append(first)
        except csv.Error as error:
            to_the_end = done + reader.line_num == len(texts)
            if to_the_end and not final and sum(map(len, lines[first:])) <= LONGEST_ROW:
                break  # the row goes on behind the block
            broken[len(firsts) - 1] = str(error)
            first += 1  # a quote that is never closed must not swallow the rows after it
            firsts.append(first)
    offsets = np.cumsum([0, *map(len, lines)])
    return Rows(block, offsets[firsts], np.array(firsts), broken)
