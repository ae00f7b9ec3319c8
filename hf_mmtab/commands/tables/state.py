"""The rows that a model has scored so far, so that the next call needs only the new ones: `predict --state FOLDER`."""

from collections.abc import Collection
from pathlib import Path

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers.utils import logging

from ...data.reading.written_times import is_text
from ...files import whole_file

logger = logging.get_logger(__name__)

STATE_FILE = "history.parquet"
FINGERPRINT = b"hf_mmtab_processor"


def with_history(
    new: datasets.Dataset,
    folder: Path,
    columns: list[str],
    fingerprint: str,
    time: str | None,
    optional: Collection[str] = (),
) -> tuple[datasets.Dataset, int]:
    """Return the rows of earlier calls and, behind them, the new ones; and how many earlier ones there are.

    Args:
        new: typed rows.
        folder: of the state; absent or empty before the first call.
        columns: that the processor reads.
        fingerprint: of the processor.
        time: column; None: the rows have no times.
        optional: columns that are kept too, and empty where the earlier or the new rows lack them.

    Raises:
        ValueError: if the state is damaged or another model's, has the new rows already, or they are of other types.
    """
    file = folder / STATE_FILE
    kept = new.select_columns([name for name in dict.fromkeys([*columns, *optional]) if name in new.column_names])
    _tell_unknown(kept, optional, f"The {len(kept):,} new rows have")
    if not file.is_file():
        return kept, 0
    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"Expected the rows of earlier calls in {str(file)!r}, found a damaged file ({error}). Put back a copy, or "
            "start a new state with the whole table."
        ) from error
    owner = (table.schema.metadata or {}).get(FINGERPRINT, b"").decode()
    if owner != fingerprint:
        raise ValueError(
            f"Expected the state of processor {fingerprint} in {str(folder)!r}, found one of "
            f"{owner or 'no processor'}. Use a folder for each model."
        )
    earlier = datasets.Dataset(table.replace_schema_metadata(None))
    _tell_unknown(earlier, optional, f"The {len(earlier):,} rows in {str(folder)!r} have")
    others = [name for name in earlier.column_names if name not in (*columns, *optional)]  # that other heads read
    kept = new.select_columns([*kept.column_names, *(name for name in others if name in new.column_names)])
    for name in (*optional, *others):
        kept, earlier = _filled(kept, name, earlier), _filled(earlier, name, kept)
    earlier = _widened(earlier, kept, time)
    try:
        rows = kept.select_columns(earlier.column_names)
        _refuse_padded(rows, earlier)
        rows = rows.cast(earlier.features)
    except (ValueError, TypeError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"Expected new rows with the columns and types of those in {str(file)!r}, found others ({error}). Give "
            "them as the earlier ones were given."
        ) from error
    _refuse_known(rows, earlier, folder, time)
    return datasets.concatenate_datasets([earlier, rows]), len(earlier)


def _tell_unknown(rows: datasets.Dataset, optional: Collection[str], whose: str) -> None:
    if absent := [name for name in optional if name not in rows.column_names]:
        logger.warning(
            f"{whose} no column {', '.join(map(repr, absent))}, whose earlier values the model reads: it takes all of "
            "them as unknown."
        )


def _widened(earlier: datasets.Dataset, new: datasets.Dataset, time: str | None) -> datasets.Dataset:
    """Return earlier rows whose whole numbers are floats where the new ones are, as in a table of both together.

    Whole times stay: their unit is another than that of floats.
    """
    features, kinds = earlier.features.copy(), {one.name: one.type for one in new.features.arrow_schema}
    for field in earlier.features.arrow_schema:
        is_float = pa.types.is_floating(kinds.get(field.name, pa.null()))
        if field.name != time and pa.types.is_integer(field.type) and is_float:
            features[field.name] = datasets.Value("float64")
    return earlier.cast(features) if features != earlier.features else earlier


def _refuse_padded(rows: datasets.Dataset, earlier: datasets.Dataset) -> None:
    """Raise a ValueError if a column of text would become another: `007` is not 7."""
    for field in earlier.features.arrow_schema:
        cells = rows.data.column(field.name)
        if not (pa.types.is_integer(field.type) and is_text(cells.type)):
            continue
        odd = pc.filter(cells, pc.not_equal(cells.cast(field.type).cast(pa.string()), cells))
        if len(odd):
            raise ValueError(
                f"column {field.name!r} holds whole numbers, and now texts such as {odd[0].as_py()!r}, which are others"
            )


def _refuse_known(rows: datasets.Dataset, earlier: datasets.Dataset, folder: Path, time: str | None) -> None:
    """Raise a ValueError if every new row is in the state, the same in all columns; warn if some are.

    Without times one row alone may be like an earlier one, and so may some of several.
    """
    new, old = (pl.DataFrame(one.with_format("arrow")[:]) for one in (rows, earlier))
    known = new.join(old.unique(), on=new.columns, how="semi", nulls_equal=True).height
    if known == new.height and (time is not None or known > 1):
        raise ValueError(
            f"Expected rows that are not in {str(folder)!r} yet, found all {known} there, with the same values: an "
            "earlier call took them, and its output has their scores. Give the rows that came since; to score these "
            "again, give the whole table without --state."
        )
    if known and time is not None:
        logger.warning(
            f"{known} of {new.height} rows are in {str(folder)!r} already, with the same values: they count twice in "
            "their histories from now on. Give new rows alone."
        )


def _filled(rows: datasets.Dataset, name: str, other: datasets.Dataset) -> datasets.Dataset:
    """Return rows with a column that other rows have, empty if they lack it, or of their type if it is empty."""
    if name not in other.column_names or (name in rows.column_names and rows.data.column(name).type != pa.null()):
        return rows
    if name in rows.column_names:
        return rows.cast_column(name, other.features[name])
    return rows.add_column(name, [None] * len(rows), feature=other.features[name])


def write_state(folder: Path, rows: datasets.Dataset, fingerprint: str) -> None:
    """Keep all rows for the next call; the file is there whole or as it was before."""
    with whole_file((folder / STATE_FILE).resolve()) as partial:
        writer = None
        for batch in rows.with_format("arrow").iter(batch_size=65_536):
            schema = batch.schema.with_metadata({FINGERPRINT: fingerprint.encode()})
            writer = writer or pq.ParquetWriter(partial, schema)
            writer.write_table(batch.cast(schema))
        assert writer is not None  # a table without rows is refused earlier
        writer.close()
