"""A whitespace tokenizer over the words of a GloVe text file, for the bag-of-words baselines."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # ids 0–4, as in the original


def read_glove_words(path: str | os.PathLike) -> list[str]:
    """Return the first word of every line of a GloVe text file, each once, in file order.

    Raises:
        ValueError: if a line has no vector after its word.
    """
    words: dict[str, None] = {}
    with open(path, encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            word, _, vector = line.partition(" ")
            if not vector.strip():
                raise ValueError(
                    f"Expected a word and its vector, separated by blanks, found {line[:40]!r} in line "
                    f"{number} of {str(Path(path))!r}. Pass a GloVe text file."
                )
            words[word] = None
    return list(words)


def glove_tokenizer(words: str | os.PathLike | Iterable[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer that splits at whitespace and looks words up: specials 0–4, then the words in order.

    Args:
        words: the words, or the path of a GloVe text file. Doubles keep their first place.
    """
    listed = read_glove_words(words) if isinstance(words, str | os.PathLike) else list(words)
    vocabulary: dict[str, int] = {}
    for word in [*SPECIAL_TOKENS, *listed]:
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def load_word_vectors(path: str | os.PathLike) -> torch.Tensor:
    """Read a GloVe text file to the table of the bag-of-words baselines.

    The special tokens come first, with zero vectors, then the file's words in order. A word that appears
    twice keeps its first id and gets its last vector, as in the original.

    Args:
        path: each line a word and its numbers, separated by blanks.

    Returns:
        float32, shape `(5 + words, dim)`.

    Raises:
        ValueError: if a line has not as many numbers as the first, or something that is no number.
    """
    vectors: dict[str, np.ndarray] = {}
    size = 0
    with open(path, encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            parts = line.rstrip().split(" ")
            size = size or len(parts) - 1
            if size == 0 or len(parts) <= size:
                raise ValueError(
                    f"{path}, line {number}: expected a word and {size or 'its'} numbers, found "
                    f"{len(parts) - 1} numbers. The file may be cut off."
                )
            try:
                # A few words of GloVe 840B contain blanks: the numbers are the last ones.
                vectors[parts[0]] = np.array(parts[-size:], dtype=np.float32)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: expected {size} numbers after the word ({error}).") from None
    if not vectors:
        raise ValueError(f"{path}: expected lines of a word and its numbers, found an empty file.")
    table = np.stack([np.zeros(size, np.float32)] * len(SPECIAL_TOKENS) + list(vectors.values()))
    return torch.from_numpy(table)
