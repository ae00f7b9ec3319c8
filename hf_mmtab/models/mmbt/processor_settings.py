"""Settings of the processor, checked before anything is read with them."""

import difflib
import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

# Keywords with which transformers finds and loads the files of a tokenizer or an image processor.
LOADING = frozenset({
    "revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder", "trust_remote_code", "proxies",
    "use_fast", "backend", "code_revision", "user_agent",
})  # fmt: skip
OF_TOKENIZERS = frozenset({
    "model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "split_special_tokens",
    "add_prefix_space", "add_bos_token", "add_eos_token", "additional_special_tokens", "extra_special_tokens",
    "do_lower_case", "tokenizer_file", "vocab_file", "merges_file",
})  # fmt: skip


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


def own_settings(
    kind: type, given: Mapping[str, Any], without: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keywords that are settings of a processor, and the others.

    Args:
        kind: class of the processor.
        given: keywords.
        without: settings that are given otherwise.
    """
    names = set(inspect.signature(kind).parameters) - set(without)
    others = {name: value for name, value in given.items() if name not in names}
    return {name: value for name, value in given.items() if name in names}, others


def refuse_unread(given: Mapping[str, Any], kind: type, tokenizer: Any, image_processor: Any) -> None:
    """Refuse keywords that neither a tokenizer nor an image processor reads: both take any without a word.

    Args:
        given: keywords with which both were loaded.
        kind: class of the processor, whose settings a misspelt one may mean.
        tokenizer: or None.
        image_processor: or None.

    Raises:
        TypeError: names the keyword, and the one that may be meant.
    """
    known = set(LOADING)
    if tokenizer is not None:
        known |= {*OF_TOKENIZERS, *tokenizer.SPECIAL_TOKENS_ATTRIBUTES}
    for part in (tokenizer, image_processor):
        for base in type(part).__mro__ if part is not None else ():
            known |= set(inspect.signature(vars(base).get("__init__", object)).parameters) - {"self", "args", "kwargs"}
    known |= set(getattr(getattr(image_processor, "valid_kwargs", None), "__annotations__", ()))
    if unknown := [name for name in given if name not in known]:
        near = difflib.get_close_matches(unknown[0], {*known, *inspect.signature(kind).parameters, "preset"}, n=1)
        raise TypeError(
            f"Expected settings of {kind.__name__}, its tokenizer or its image processor, found {unknown[0]!r}, which "
            f"none of them reads. {f'Did you mean {near[0]}?' if near else 'Leave it out.'}"
        )
