"""Word vectors of a GloVe text file, in the order of the GloVe tokenizer's ids."""

import os

import numpy as np
import torch

from .glove_mmbt import SPECIAL_TOKENS


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
