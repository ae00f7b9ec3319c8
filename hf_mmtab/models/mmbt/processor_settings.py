"""Settings of the processor, checked before anything is read with them."""

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise a ValueError unless a value is one of its choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"Expected {name} to be one of {list(choices)}, found {value!r}.")


def check_whole(name: str, value: Any, least: int, why: str = "") -> None:
    """Raise a ValueError unless a value is a whole number, `least` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"Expected {name} of at least {least}{why}, found {value!r}.")


def check_flags(**values: Any) -> None:
    """Raise a ValueError unless values are True or False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"Expected {name} to be true or false, found {value!r}.")


def check_columns(columns: Any) -> None:
    """Raise a ValueError unless columns are as `fit_columns` learns them, or None."""
    if columns is None:
        return
    given = list(columns.values()) if isinstance(columns, Mapping) else [None]
    held = [one.get("quantiles", one.get("values")) if isinstance(one, Mapping) else None for one in given]
    learned = all(isinstance(values, list) and values for values in held)
    if not learned:
        raise ValueError(
            f'Expected columns as fit_columns learns them (name → {{"quantiles": numbers}} or {{"values": texts}}), '
            f"found {columns!r:.80}. Pass what `fit_columns(rows, numbers, categories)` returns, or None."
        )


def check_parts(image_processor: Any, tokenizer: Any) -> None:
    """Raise a ValueError if there is neither part, one stands in the other's place, or texts cannot be padded."""
    if image_processor is None and tokenizer is None:
        raise ValueError("Expected an image processor, a tokenizer or both, found neither. Pass at least one.")
    swapped = isinstance(image_processor, PreTrainedTokenizerBase)
    if swapped or not (image_processor is None or callable(image_processor)):
        raise ValueError(
            f"Expected an image processor first, found {type(image_processor).__name__}. Pass "
            "image_processor=... and tokenizer=... by name."
        )
    if tokenizer is None:
        return
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(
            f"Expected a tokenizer of transformers, found {type(tokenizer).__name__}. Pass image_processor=... and "
            "tokenizer=... by name."
        )
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"Expected a tokenizer with a padding token, found none in {type(tokenizer).__name__}. "
            "Set one first, e.g. `tokenizer.pad_token = tokenizer.eos_token`."
        )


def check_lengths(padding: Any, max_length: int | None, truncation: Any = True) -> None:
    """Raise a ValueError unless texts can be cut and padded so; None: as long as the processor says."""
    if not isinstance(padding, bool):
        check_choice("padding", padding, ("longest", "max_length"))
    if truncation != "longest_first":  # transformers' word for what is done here
        check_flags(truncation=truncation)
    if max_length is not None:
        check_whole("max_length", max_length, 4, " (a pair needs 3 special tokens)")


def check_lists_only(lengths: Iterable[int], return_tensors: Any) -> None:
    """Raise a ValueError if texts of several lengths, without padding, are to become a tensor."""
    found = sorted(set(lengths))
    if return_tensors is not None and len(found) > 1:
        raise ValueError(
            f"Expected texts of one length, found {found[0]} to {found[-1]} pieces with padding=False. Set "
            "padding=True for tensors, or return_tensors=None for lists."
        )
