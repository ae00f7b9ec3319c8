"""A whitespace tokenizer over the words of a GloVe text file, for the bag-of-words baselines."""

import os
from collections.abc import Iterable
from pathlib import Path

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
