"""The rows that a model has scored so far, so that the next call needs only the new ones: `predict --state FOLDER`."""

from collections.abc import Collection
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from ...files import whole_file

STATE_FILE = "history.parquet"
FINGERPRINT = b"hf_mmtab_processor"


def with_history(
    new: datasets.Dataset, folder: Path, columns: list[str], fingerprint: str, optional: Collection[str] = ()
) -> tuple[datasets.Dataset, int]:
    """Return the rows of earlier calls and, behind them, the new ones; and how many earlier ones there are.

    Args:
        new: typed rows.
        folder: of the state; absent or empty before the first call.
        columns: that the processor reads.
        fingerprint: of the processor.
        optional: columns that are kept too, and empty where the earlier or the new rows lack them.

    Raises:
        ValueError: if the state is damaged or another model's, or the new rows are of other types.
    """
    file = folder / STATE_FILE
    kept = new.select_columns([name for name in dict.fromkeys([*columns, *optional]) if name in new.column_names])
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
    for name in optional:
        kept, earlier = _filled(kept, name, earlier), _filled(earlier, name, kept)
    try:
        rows = kept.select_columns(earlier.column_names).cast(earlier.features)
    except (ValueError, TypeError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"Expected new rows with the columns and types of those in {str(file)!r}, found others ({error}). Give "
            "them as the earlier ones were given."
        ) from error
    return datasets.concatenate_datasets([earlier, rows]), len(earlier)


def _filled(rows: datasets.Dataset, name: str, other: datasets.Dataset) -> datasets.Dataset:
    """Return rows with a column that other rows have, empty if they lack it, or of their type if it is empty."""
    if name not in other.column_names or (name in rows.column_names and rows.data.column(name).type != pa.null()):
        return rows
    if name in rows.column_names:
        return rows.cast_column(name, other.features[name])
    return rows.add_column(name, [None] * len(rows), feature=other.features[name])


def write_state(folder: Path, rows: datasets.Dataset, fingerprint: str) -> None:
    """Keep all rows for the next call; the file is there whole or as it was before."""
    with whole_file(folder / STATE_FILE) as partial:
        writer = None
        for batch in rows.with_format("arrow").iter(batch_size=65_536):
            schema = batch.schema.with_metadata({FINGERPRINT: fingerprint.encode()})
            writer = writer or pq.ParquetWriter(partial, schema)
            writer.write_table(batch.cast(schema))
        assert writer is not None  # a table without rows is refused earlier
        writer.close()
