"""UPMC Food-101 in the original's layout."""

from pathlib import Path
from typing import Any

from .image_text import ImageText
from .image_text_files import Source, Splits, find_sources


class Food101(ImageText):
    """Pictures of dishes with the text of the page that showed them (Wang et al. 2015, UPMC Food-101).

    Rows: as published, not counted here, 60,085 train, 5,000 dev, 21,683 test in the MMBT paper's split;
    `test_hard` where its authors made one.
    Columns: `image`, `text` (words of the web page), `label` (ClassLabel), `id` where given.
    Classes: 101 dishes, nearly balanced.
    Layout: `<data_root>/food101/{train,dev,test,test_hard_gt,test_hard}.jsonl`, each line
    `{"text", "img" or "image": relative path or null, "label": str}`.
    Class numbers follow the first occurrence in train, as in the original.
    Licence: pictures and texts were collected from the web and belong to their owners; for research.
    Source: http://visiir.lip6.fr/
    """

    TASK = "food101"

    def __init__(self, data_root: Any, cache_dir: str | None = None, **kwargs: Any):
        kwargs.setdefault("label_order", "first")
        kwargs.setdefault("multi_label", False)
        super().__init__(data_root, cache_dir=cache_dir, **kwargs)

    @classmethod
    def sources_in(cls, root: Path, splits: Splits | None = None) -> list[Source]:
        """Return the data files under a folder, as this layout has them."""
        return find_sources(root / cls.TASK if (root / cls.TASK).is_dir() else root, splits)
