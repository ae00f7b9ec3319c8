"""Text as numbers: amounts of money, decimals, whole numbers. Arrow's kernels, which a forked process can use."""

import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# The text that Arrow casts to float64.
NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity|nan))$"
SYMBOLS = r"[€£¥\pZ\s]"  # currency signs (the dollar is removed before) and all kinds of spaces


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def parse_money(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Parse text as amounts.

    Returns:
        Amounts as float64 `(rows,)`, NaN where missing or wrong, and the numbers of the rows whose text is no amount.
    """
    text = empty_as_missing(pc.utf8_trim_whitespace(array))
    amounts = parse_numbers(pc.ascii_ltrim(text, "$"))
    if amounts.null_count > text.null_count:
        unread = pc.and_(text.is_valid(), amounts.is_null())
        amounts = pc.replace_with_mask(amounts, unread, _parse_written_amounts(text.filter(unread)))
    wrong = np.flatnonzero(pc.and_(text.is_valid(), amounts.is_null()))
    return amounts.fill_null(np.nan).to_numpy(zero_copy_only=False), wrong


def _parse_written_amounts(text: pa.Array) -> pa.Array:
    """Parse amounts with currency signs, thousands separators or accountants' brackets, which are a minus."""
    negative = pc.and_(pc.starts_with(text, "("), pc.ends_with(text, ")"))
    bare = pc.if_else(negative, pc.utf8_slice_codeunits(text, 1, -1), text)
    bare = pc.replace_substring(bare, "$", "")
    # Replacing takes three times as long as searching.
    if pc.any(pc.match_substring_regex(bare, SYMBOLS)).as_py():
        bare = pc.replace_substring_regex(bare, SYMBOLS, "")
    # a comma that does not separate thousands may be a decimal comma: 9,66 must not become 966
    grouped = pc.match_substring_regex(bare, r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$")
    amounts = parse_numbers(pc.if_else(grouped, pc.replace_substring(bare, ",", ""), bare))
    return pc.if_else(negative, pc.negate(amounts), amounts)


def parse_numbers(text: pa.Array) -> pa.Array:
    """Parse text as float64, null where it is missing or not a number."""
    try:
        text[:1024].cast(pa.float64())  # many errors take five times as long as many numbers: meet them early
        return text.cast(pa.float64())
    except pa.ArrowInvalid:  # one of them is not a number: find which, at three times the time
        return pc.if_else(pc.match_substring_regex(text, NUMBER), text, None).cast(pa.float64())


def padded(text: pa.Array) -> pa.Array:
    """Return where text is a number with leading zeros: `007` is no 7."""
    return pc.match_substring_regex(text, r"^[+-]?0\d")


def whole_numbers(values: pa.Array) -> pa.Array:
    """Return numbers or text as int64, null where they are not whole numbers, or have leading zeros."""
    if is_text(values.type):
        coded = pc.if_else(padded(values), None, values).dictionary_encode()
        return pa.array([_whole_number(one) for one in coded.dictionary.to_pylist()], pa.int64()).take(coded.indices)
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
    return pc.if_else(whole, values, None).cast(pa.int64())


def spelled_numbers(values: pa.Array) -> pa.Array:
    """Return as float64 what text spells, or numbers are: 1.0 is 1, .1 is 0.1, -0.0 is 0; null for all else.

    Null too are numbers with leading zeros (`007` is no 7) and those that float64 may not tell apart.
    """
    if pa.types.is_floating(values.type):
        return pc.add(values.cast(pa.float64()), 0.0)
    text = values.cast(pa.string())
    is_number = pc.match_substring_regex(text, r"^-?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$")
    is_exact = pc.less_equal(pc.utf8_length(text), 15)
    return pc.add(pc.if_else(pc.and_(is_number, is_exact), text, None).cast(pa.float64()), 0.0)


def one_spelling(values: pa.Array) -> pa.Array:
    """Return numbers, and texts that spell some, as text in one spelling (1 for 1.0); all other texts as they are."""
    numbers = spelled_numbers(values)
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 1e15))
    text = pc.if_else(whole, numbers.cast(pa.int64(), safe=False).cast(pa.string()), numbers.cast(pa.string()))
    return pc.coalesce(text, values.cast(pa.string()))


def _whole_number(text: str) -> int | None:
    """Parse a whole number: 91750.0 is 91750, and text of digits keeps all of them."""
    if re.fullmatch(r"[+-]?[0-9]+", text) and -(2**63) <= (number := int(text)) < 2**63:
        return number
    value = parse_numbers(pa.array([text]))[0].as_py()
    return int(value) if value is not None and abs(value) < 2.0**53 and value == math.floor(value) else None


def empty_as_missing(text: pa.Array) -> pa.Array:
    """Make empty texts null."""
    if _num_empty(text) == text.null_count:
        return text
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)


def _num_empty(text: pa.Array) -> int:
    """Return how many texts take no byte: the empty ones and, as a rule, the missing ones."""
    if text.buffers()[1] is None:
        return 0
    kind = np.int64 if pa.types.is_large_string(text.type) else np.int32
    offsets = np.frombuffer(text.buffers()[1], dtype=kind)[text.offset : text.offset + len(text) + 1]
    return len(text) - int(np.count_nonzero(offsets[1:] != offsets[:-1]))
