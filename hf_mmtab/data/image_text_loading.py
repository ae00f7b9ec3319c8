"""Load pictures and texts for prediction, and list what was left out."""

import os
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers.utils import logging

from .image_text import ImageText
from .pictures.files import Source, find_sources
from .reading.places import real_path
from .reading.record_files import file_suffix
from .reading.records import BadRecord

logger = logging.get_logger(__name__)

SAMPLE_PREFIX = "sample:"
PREDICT = "predict"
LISTED = 5  # skipped records shown in a warning


@dataclass
class ImageTextInput:
    """Pictures and texts to predict.

    Attributes:
        rows: `image`, `text` (or `sentence1`, `sentence2`) and all columns of the input (`input_<name>` for those
            called `image`, `label` and the like), in the input's order.
        own_columns: those of `rows` that the input has itself, pictures left out → their names there.
        skipped: the records left out.
        mixed: of `own_columns` those that hold values of several kinds, as JSON → their type in a Parquet file.
        categories: of `own_columns` those that a Parquet file has as dictionaries → one with all its categories.
    """

    rows: datasets.Dataset
    own_columns: dict[str, str]
    skipped: list[BadRecord]
    mixed: dict[str, pa.DataType]
    categories: dict[str, pa.DictionaryArray]


def read_image_text(path: str | os.PathLike, cache_dir: str | None = None, **options: Any) -> ImageTextInput:
    """Read pictures and texts without (or regardless of) labels, for prediction.

    Args:
        path: a file, or a folder with one data file.
        cache_dir: of the built table; default that of `datasets`.
        options: fields of `ImageTextConfig`: column names, `on_bad_record`, `allow_empty_text` ...

    Raises:
        ValueError: if there is not exactly one data file.
    """
    sources = find_sources(real_path(path))
    if len(sources) != 1:
        found = [source.path.name for source in sources]
        raise ValueError(f"Expected one data file to predict, found {found} in {str(path)!r}. Name one of them.")
    file = sources[0].path
    options |= {"splits": {PREDICT: file.name}, "label_column": None, "keep_input_columns": True}
    builder = ImageText(file.parent, cache_dir=cache_dir, **options)
    builder.download_and_prepare()
    rows = builder.as_dataset(split=PREDICT)
    own, listed = builder.own_columns, _dictionaries(sources[0])
    categories = {name: listed[given] for name, given in own.items() if given in listed}
    return ImageTextInput(rows, own, warn_about(builder.skipped), builder.mixed_columns, categories)


def _dictionaries(source: Source) -> dict[str, pa.DictionaryArray]:
    """Return of the columns that a Parquet file has as dictionaries some cells, with all categories in their order."""
    if file_suffix(source.path) != ".parquet":
        return {}
    names = [one.name for one in source.schema or () if pa.types.is_dictionary(one.type)]
    table = pq.read_table(source.path, columns=names) if names else pa.table({})
    return {name: table.column(name).unify_dictionaries().chunk(0) for name in names}


def as_categories(texts: pa.ChunkedArray, like: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return texts as a dictionary with the categories, type and order of another."""
    places = pc.index_in(texts.combine_chunks().cast(like.dictionary.type), like.dictionary).cast(like.type.index_type)
    return pa.DictionaryArray.from_arrays(places, like.dictionary, ordered=like.type.ordered)


def warn_about(skipped: list[BadRecord]) -> list[BadRecord]:
    """Log how many records were left out and the first few of them; return them all."""
    if skipped:
        shown = "\n".join(f"  {record}" for record in skipped[:LISTED])
        more = f"\n  ... and {len(skipped) - LISTED} more" if len(skipped) > LISTED else ""
        told = "1 bad record was" if len(skipped) == 1 else f"{len(skipped)} bad records were"
        logger.warning(f"{told} left out:\n{shown}{more}")
    return skipped
