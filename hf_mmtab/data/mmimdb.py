"""MM-IMDB in the original's layout."""

from pathlib import Path
from typing import Any

from .image_text import ImageText
from .image_text_files import Source, Splits, find_sources


class MMIMDB(ImageText):
    """Film posters and plots with one or several of 23 genres (Arevalo et al. 2017, arXiv:1702.01992).

    Rows: as published, not counted here, 15,552 train, 2,608 dev, 7,799 test; `test_hard` where the MMBT authors made
    one.
    Columns: `image` (null where the poster is missing), `text` (plot), `labels` (List of ClassLabel), `id`.
    Classes: 23 genres, from 13,967 records (Drama) down to 338 (Film-Noir) over all splits.
    Layout: `<data_root>/mmimdb/{train,dev,test,test_hard_gt,test_hard}.jsonl`, each line
    `{"text", "img" or "image": relative path or null, "label": [str, ...]}`, as the original's
    `scripts/mmimdb.py` writes it (with the key `image`, where its reader wants `img`: both are read here).
    Class numbers follow the first occurrence in train, as in the original.
    Licence: the pictures and plots belong to their owners; the data set is for research.
    Source: https://github.com/johnarevalo/gmu-mmimdb
    """

    TASK = "mmimdb"

    def __init__(self, data_root: Any, cache_dir: str | None = None, **kwargs: Any):
        kwargs.setdefault("label_order", "first")
        kwargs.setdefault("multi_label", True)
        super().__init__(data_root, cache_dir=cache_dir, **kwargs)

    @classmethod
    def sources_in(cls, root: Path, splits: Splits | None = None) -> list[Source]:
        """Return the data files under a folder, as this layout has them."""
        return find_sources(root / cls.TASK if (root / cls.TASK).is_dir() else root, splits)
