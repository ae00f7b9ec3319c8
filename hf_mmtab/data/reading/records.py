"""Bad records: where they are, what is wrong with them, and what is done about them."""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from transformers.utils import logging

from .places import Place

logger = logging.get_logger(__name__)

OnBadRecord = Literal["raise", "skip"]


@dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used: where it is, what was expected, what was found and what to do.

    Args:
        split: of pictures and texts: that it would be in; None: not known.
    """

    file: str
    line: int | None  # line of a text file, row of a Parquet file, from 1
    column: str | None
    expected: str
    found: str
    remedy: str
    split: str | None = None

    def __str__(self) -> str:
        place = repr(self.file)
        counted = "row" if self.file.endswith((".parquet", ".arrow")) else "line"
        place += f", {counted} {self.line}" if self.line is not None else ""
        place += f", column {self.column!r}" if self.column is not None else ""
        return f"Expected {self.expected}, found {self.found} ({place}). {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class BadRecordError(ValueError):
    """Raised for the first bad record under `on_bad_record="raise"`."""

    def __init__(self, record: BadRecord):
        super().__init__(f"{record} To leave such records out and list them, set on_bad_record to skip.")
        self.record = record

    def __reduce__(self) -> tuple[Any, ...]:  # from a worker to whoever waits for it
        return type(self), (self.record,)


class BadRecords:
    """What to do with bad records: stop at the first one, or collect them.

    Attributes:
        policy: "raise" or "skip".
        records: the bad ones so far.
        rows_read: rows that the readers have met so far, good and bad.
    """

    def __init__(self, policy: OnBadRecord = "raise"):
        if policy not in ("raise", "skip"):
            raise ValueError(f'Expected on_bad_record to be "raise" or "skip", found {policy!r}.')
        self.policy = policy
        self.records: list[BadRecord] = []
        self.rows_read = 0

    def add(self, record: BadRecord) -> None:
        """Note a record.

        Raises:
            BadRecordError: under the policy "raise".
        """
        if self.policy == "raise":
            raise BadRecordError(record)
        self.records.append(record)

    def check_count(self, rows_used: int) -> None:
        """Check that every row read so far is used or reported.

        Raises:
            RuntimeError: if it is not, which is a fault of this package and not of the data.
        """
        reported = len(self.records)
        if self.rows_read != rows_used + reported:
            raise RuntimeError(
                f"Expected {self.rows_read} rows read to be used or reported, found {rows_used} used and {reported} "
                "reported. This is a fault of hf_mmtab: please report it with the file, or the lines around the first "
                "bad record."
            )


MANY = 0.1  # share of the records that the end of a run tells when they were left out


def many_left_out(skipped: Sequence[BadRecord], used: Mapping[str, int]) -> str:
    """Return sentences if more than a tenth of the records, or of those of a split, was left out; else empty.

    Args:
        skipped: the records.
        used: split → how many others it has.
    """
    of_split = Counter(one.split for one in skipped)
    counts = {split: (of_split[split], of_split[split] + number) for split, number in used.items()}
    left, whole = len(skipped), len(skipped) + sum(used.values())
    if all(bad <= MANY * of for bad, of in [(left, whole), *counts.values()]):
        return ""
    (column, expected), count = Counter((one.column, one.expected) for one in skipped).most_common(1)[0]
    where = "" if column is None else f" in column {column!r}"
    told = (
        f"{left / whole:.0%} of the records were left out, {left:,} of {whole:,}: {count:,} for want of "
        f"{expected}{where}. The numbers are of the others."
    )
    if len(used) == 1 or left == of_split[None]:
        return told
    parts = [f"{split} {bad / max(of, 1):.0%} ({bad:,} of {of:,})" for split, (bad, of) in counts.items()]
    unknown = f"; {of_split[None]:,} of no known split" if of_split[None] else ""
    return f"{told} By split: {', '.join(parts)}{unknown}."


def check_names(names: Sequence[str], path: Place) -> None:
    """Check the column names of a file.

    Raises:
        ValueError: if a name is there twice, holds a NUL character, or is absurdly long.
    """
    if long := next((name for name in names if len(name) > LONGEST_NAME), None):
        raise ValueError(
            f"Expected column names of at most {LONGEST_NAME:,} characters, found one of {len(long):,} in "
            f"{str(path)!r}: {shorten(long)}. Look for a quote or a line break that is missing, or rename the column."
        )
    if cut := next((name for name in names if "\0" in name), None):
        raise ValueError(
            f"Expected column names without NUL characters, found {shorten(cut)} in {str(path)!r}. Rename the column."
        )
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"Expected different column names, found {twice} twice in {str(path)!r}. Rename one of them.")


def free_names(names: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """Return for each column a name that is not taken, `input_NAME` where its own is, and no two alike."""
    used = {*taken, *names}
    found = {}
    for name in names:
        free = name
        while free in taken or (free != name and free in used):
            free = f"input_{free}"
        used.add(free)
        found[name] = free
    return found


LONGEST_NAME = 1000  # characters of a column's name: a longer one is rather a file's text without line breaks
_WHOLE = re.compile(r"\+?(-?)0*(\d{1,30})(?:\.0*)?")


_TRUTH = {"true": "1", "yes": "1", "false": "0", "no": "0"}


def tell_alike(labels: Sequence[str], counts: Sequence[int] | None = None) -> None:
    """Warn of labels that are probably spellings of one, but classes of their own: they differ by spaces, by upper and
    lower case, as 1 and 1.0, or as true, yes and 1.

    Args:
        labels: names of the classes.
        counts: how many rows have each; None: not known.
    """
    groups: dict[str, list[str]] = {}
    for place, label in enumerate(labels):
        plain = " ".join(label.split()).casefold()
        number = _WHOLE.fullmatch(plain)
        told = repr(label) + (f" ({counts[place]:,})" if counts is not None else "")
        groups.setdefault(_TRUTH.get(plain, number[1] + number[2] if number else plain), []).append(told)
    if alike := [", ".join(group) for group in groups.values() if len(group) > 1]:
        told = "; ".join(alike[:5]) + (f" and {len(alike) - 5} more" if len(alike) > 5 else "")
        logger.warning(
            "Labels that differ by spaces, by upper and lower case, as 1 and 1.0 or as true, yes and 1 only are "
            f"classes of their own{' (rows)' if counts is not None else ''}: {told}. If they are the same, write them "
            "alike in the data, and start anew."
        )


def files_digest(files: Sequence[Place]) -> str:
    """Return a hash of names, sizes and times of files."""
    facts = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def shorten(value: Any, length: int = 60) -> str:
    """Return the repr of a value, cut in the middle, for a message."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 2 :]}"
