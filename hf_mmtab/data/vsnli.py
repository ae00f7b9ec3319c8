"""V-SNLI in the original's layout."""

from pathlib import Path
from typing import Any

from .image_text import ImageText
from .image_text_files import Source, Splits, find_sources


class VSNLI(ImageText):
    """Pairs of sentences with the picture that the first one describes (Vu et al. 2018, arXiv:1806.05645).

    Rows: as published, not counted here, 545,620 train, 9,842 dev, 9,824 test; `test_hard` holds what a
    model that reads only the second sentence gets wrong.
    Columns: `image` (Flickr30k), `sentence1` (premise, a caption), `sentence2` (hypothesis), `label`.
    Classes: entailment, neutral, contradiction, nearly balanced.
    Layout: `<data_root>/vsnli/{train,dev,test,test_hard}.jsonl`, each line
    `{"sentence1", "sentence2", "img" or "image": relative path or null, "label": str}`.
    Class numbers follow the first occurrence in train, as in the original.
    Licence: SNLI is CC BY-SA 4.0; Flickr30k pictures are for non-commercial research.
    Source: https://github.com/claudiogreco/coling18-gte
    """

    TASK = "vsnli"

    def __init__(self, data_root: Any, cache_dir: str | None = None, **kwargs: Any):
        kwargs.setdefault("label_order", "first")
        kwargs.setdefault("multi_label", False)
        super().__init__(data_root, cache_dir=cache_dir, **kwargs)

    @classmethod
    def sources_in(cls, root: Path, splits: Splits | None = None) -> list[Source]:
        """Return the data files under a folder, as this layout has them."""
        return find_sources(root / cls.TASK if (root / cls.TASK).is_dir() else root, splits)
