"""How a folder of pictures and texts is read."""

from dataclasses import dataclass

import datasets

from ..reading.records import OnBadRecord
from .columns import AUTO
from .files import Splits
from .opening import CheckImages


@dataclass
class ImageTextConfig(datasets.BuilderConfig):
    """How to read a folder of pictures and texts.

    Attributes:
        data_root: folder, or one file (the builder takes a `Dataset` or `DatasetDict`, too).
        splits: split name -> file(s) relative to `data_root`; default: by file name (see `find_sources`).
        separator: of the columns of CSV files; None: a tab in .tsv files, else a comma.
        missing: texts that stand for a missing value, beside the empty cell; in CSV where nothing quotes them.
        image_column, text_column, text_pair_column, label_column: names; "auto": the first usual name that is
            there; None: the input has none.
        label_separator: splits a text into several labels, e.g. "|" in CSV.
        label_order: of the class numbers: "alphabetical" (whole numbers by value), "first" occurrence in the
            training file (the original's) or "frequency".
        label_names: the classes in order, instead of those found in the training set.
        multi_label: one or several labels for each record; default: several if any label is a list.
        split_fractions: train, validation, test, of a single file. A training file without a validation file
            gives up `validation / (train + validation)` of its records. Stratified by (rarest) label.
        split_seed: of that split.
        on_bad_record: "raise" at the first bad record, or "skip" and list them (`builder.skipped`).
        check_images: "decode" reads every picture to its end, so that training meets no broken one; "header" only
            opens it; "off".
        allow_empty_text: keep records without a text.
        keep_input_columns: keep the columns behind picture, text and label, too, as they were (for
            predictions).
        number_columns, category_columns: further columns that the model reads; cells of the first are numbers, or
            empty.
    """

    data_root: str = ""
    splits: Splits | None = None
    separator: str | None = None
    missing: tuple[str, ...] = ()
    image_column: str | None = AUTO
    text_column: str | None = AUTO
    text_pair_column: str | None = AUTO
    label_column: str | None = AUTO
    label_separator: str | None = None
    label_order: str = "alphabetical"
    label_names: list[str] | None = None
    multi_label: bool | None = None
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    on_bad_record: OnBadRecord = "raise"
    check_images: CheckImages = "decode"
    allow_empty_text: bool = False
    keep_input_columns: bool = False
    number_columns: tuple[str, ...] = ()
    category_columns: tuple[str, ...] = ()
