"""Texts -> ids, mask and segments, as MMBT and its baselines read them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Encoded = dict[str, list[list[int]]]  # name of the model input -> a list for each text


def encode_texts(
    tokenizer: Any,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    max_length: int,
    leading_cls: bool,
    segment_offset: int,
) -> Encoded:
    """Tokenise and cut texts, or pairs of texts; see `MMBTProcessor` for the scheme.

    Returns:
        Unpadded `input_ids`, `attention_mask` and `token_type_ids`.

    Raises:
        ValueError: if a text is no str, or the tokenizer lacks a special token that is needed.
    """
    start = [special_id(tokenizer, "cls")] if leading_cls else []
    ids: list[list[int]] = []
    segments: list[list[int]] = []
    if pairs is None:
        for pieces in tokenize(tokenizer, texts):
            ids.append(start + pieces[: max_length - 1])
            segments.append([segment_offset] * len(ids[-1]))
    else:
        sep = [special_id(tokenizer, "sep")]
        for a, b in zip(tokenize(tokenizer, texts), tokenize(tokenizer, pairs), strict=True):
            a, b = truncate_pair(a, b, max_length - 3)
            left, right = start + a + sep, b + sep
            ids.append(left + right)
            segments.append([segment_offset] * len(left) + [segment_offset + 1] * len(right))
    return {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids], "token_type_ids": segments}


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text's pieces, without special tokens and however many they are."""
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(
                f"Expected text to be a str, found {text!r:.80} ({type(text).__name__}). "
                'Replace missing texts by "" and join lists of words.'
            )
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # no warning about texts over the limit: they are cut here
    )
    return encoded["input_ids"]


def needed_lengths(tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
    """Return for each text, or pair, the smallest `max_length` of `encode_texts` that cuts nothing off."""
    firsts = map(len, tokenize(tokenizer, texts))
    if pairs is None:
        return [1 + first for first in firsts]
    return [3 + a + b for a, b in zip(firsts, map(len, tokenize(tokenizer, pairs)), strict=True)]


def special_id(tokenizer: Any, role: Literal["cls", "sep"]) -> int:
    """Return the id of [CLS] or [SEP], or of what the tokenizer uses in its place (<s>, </s>).

    Raises:
        ValueError: if it has neither.
    """
    names = ("cls_token", "bos_token") if role == "cls" else ("sep_token", "eos_token")
    for name in names:
        token_id = getattr(tokenizer, f"{name}_id")
        if token_id is not None:
            return token_id
    raise ValueError(
        f"Expected the tokenizer to have a {names[0]} or {names[1]}, found neither in "
        f"{type(tokenizer).__name__}. Set one, e.g. `tokenizer.{names[0]} = ...`."
    )


def truncate_pair(a: list[int], b: list[int], limit: int) -> tuple[list[int], list[int]]:
    """Take pieces off the end of the longer side (the second when equal) until `limit` remain together."""
    keep_a, keep_b = len(a), len(b)
    while keep_a + keep_b > limit:
        if keep_a > keep_b:
            keep_a -= 1
        else:
            keep_b -= 1
    return a[:keep_a], b[:keep_b]


def pad_texts(encoded: Encoded, pad_token_id: int, length: int | None = None) -> Encoded:
    """Pad on the right to `length`, or to the longest text, but to one token at least."""
    longest = length or max([1, *map(len, encoded["input_ids"])])
    fill = {"input_ids": pad_token_id}
    return {name: [row + [fill.get(name, 0)] * (longest - len(row)) for row in rows] for name, rows in encoded.items()}


def texts_of(row: Mapping[str, Any]) -> tuple[list[str], list[str] | None]:
    """Return the text of a row, and the second one of a pair.

    Raises:
        ValueError: if the row has neither `text` nor `sentence1` and `sentence2`.
    """
    if "sentence1" in row and "sentence2" in row:
        return [row["sentence1"]], [row["sentence2"]]
    if "text" in row:
        return [row["text"]], None
    raise ValueError(
        f"Expected a column text, or sentence1 and sentence2, found columns {sorted(row)}. "
        "Rename them, e.g. with `dataset.rename_columns(...)`."
    )


def require_text(example: Mapping[str, Any]) -> None:
    """Refuse an example of a pipeline or a service that holds no text, for a model that reads one.

    Raises:
        ValueError: names the keys that were found.
    """
    if "text" not in example and not {"sentence1", "sentence2"} <= set(example):
        found = ", ".join(repr(name) for name in example) or "none"
        raise ValueError(
            'Expected the text under `text` ("" for no text), or a pair under `text` and `text_pair`, found the keys '
            f"{found:.200}. Add it to the mapping, or rename its key."
        )
