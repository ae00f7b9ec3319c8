"""What a user passes to the processor, as lists: texts of any kind, and rows from any kind of table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .several_pictures import COLUMNS

ROW_COLUMNS = (*COLUMNS, "text", "sentence1", "sentence2", "label", "labels")  # of a picture-and-text data set


def as_list(value: Any, name: str) -> list[Any] | None:
    """Return one text or several as a list.

    Args:
        value: a text, or a list, array or column (NumPy, pandas, polars, Arrow) of them; None stays None.
        name: of the argument.

    Raises:
        ValueError: if it is neither.
    """
    value = _plain(value)
    if value is None or isinstance(value, str):
        return None if value is None else [value]
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return list(value)
    raise ValueError(
        f"Expected {name} to be a str or a list of str, found {type(value).__name__}. Pass one text, or a list with a "
        "text for each picture."
    )


def columns_of_table(rows: Any) -> Any:
    """Return the columns of a table as lists, missing cells None; anything else as it is.

    Args:
        rows: a frame of polars (lazy too) or pandas, an Arrow table, a `datasets.Dataset`, or a list of rows.
    """
    if hasattr(rows, "lazy"):
        rows = rows.lazy().collect()
        return {name: rows[name].to_list() for name in rows.columns}
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):  # a series has none
        _refuse_doubled(rows.columns)
        return rows.astype(object).where(rows.notna(), None).to_dict("list")  # pandas' own mark is a number, NaN
    if hasattr(rows, "to_pydict"):
        _refuse_doubled(rows.schema.names)
        return rows.to_pydict()
    if hasattr(rows, "column_names") and hasattr(rows, "select_columns"):
        return {name: rows[name][:] for name in rows.column_names}
    if isinstance(rows, list | tuple) and rows and all(_is_row(row) for row in rows):
        return _columns_of_rows(rows)
    return rows


def _columns_of_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def rows_of(columns: Mapping[str, Any], beside: Iterable[str]) -> list[dict[str, Any]] | dict[str, Any]:
    """Return the rows of a batch that is given as columns, or the one row, as `map` without `batched` passes it.

    Args:
        columns: name → a list of cells, or the cell of one row. A column None is one of missing cells.
        beside: names of the columns that the processor reads beside picture and text.

    Raises:
        ValueError: if there is no column of a picture or text, or columns have different lengths.
    """
    known = {name: columns[name] for name in (*ROW_COLUMNS, *beside) if name in columns}
    if not {"text", "sentence1", *COLUMNS} & set(known):
        raise ValueError(
            f"Expected columns of rows ({', '.join(ROW_COLUMNS)}), found {', '.join(map(str, columns)) or 'none'}. "
            "Rename yours; a Trainer that takes away columns before a transform needs remove_unused_columns=False."
        )
    given = {name: value for name, value in known.items() if value is not None}
    if not given or any(_is_cell(value) for value in given.values()):
        return known
    lengths = {name: len(value) for name, value in given.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"Expected columns of one length, found {lengths}. Give each row a cell in every column, None where a "
            "picture is missing."
        )
    length = next(iter(lengths.values()))
    cells = {name: [None] * length if value is None else value for name, value in known.items()}
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def cells_beside(columns: Any, read: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Return what stands beside picture and text, a mapping for each example.

    Args:
        columns: name → a value, or a list, array or series of one for each example; or a table or list of rows.
        read: names of the columns that the processor was fitted with.
        size: how many examples there are.

    Raises:
        ValueError: if columns have no names, are not read, or do not have a value for each example.
    """
    if isinstance(columns, list | tuple) and columns and all(isinstance(row, Mapping) for row in columns):
        columns = _columns_of_rows(columns)
    columns = columns_of_table({} if columns is None else columns)
    if not isinstance(columns, Mapping):
        raise ValueError(
            f"Expected columns with their names (name → values, or a table), found {type(columns).__name__}. Name them."
        )
    if unread := [name for name in columns if name not in read]:
        raise ValueError(
            f"Expected columns that the processor was fitted with ({', '.join(read) or 'none'}), "
            f"found {', '.join(map(str, unread))}. Leave them out, or train a model that reads them."
        )
    cells = {name: _listed(value) for name, value in columns.items()}
    if wrong := [name for name, value in cells.items() if len(value) != size]:
        raise ValueError(f"Expected {size} values in columns, as many as texts, found others in {wrong}.")
    return [{name: value[place] for name, value in cells.items()} for place in range(size)]


def _plain(value: Any) -> Any:
    """Return a column or array (Arrow, pandas, polars, NumPy, torch) as a list; anything else as it is."""
    way = next((one for one in ("to_pylist", "to_list", "tolist") if hasattr(value, one)), None)
    return value if way is None else getattr(value, way)()


def _listed(value: Any) -> list[Any]:
    value = _plain(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray) else [value]


def batch_of(encoded: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return encoded rows as columns.

    Raises:
        ValueError: if some rows have a label and others have none.
    """
    names = list(encoded[0]) if encoded else []
    if any(set(row) != set(names) for row in encoded):
        lacking = [number for number, row in enumerate(encoded) if "labels" not in row]
        raise ValueError(
            f"Expected a label in every row or in none, found none in {len(lacking)} of {len(encoded)} rows (the first "
            f"is row {lacking[0]}). Leave these rows or the column out."
        )
    return {name: [row[name] for row in encoded] for name in names}


def _refuse_doubled(names: Iterable[Any]) -> None:
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"Expected columns with a name of their own, found {', '.join(map(repr, doubled))} more than once. Rename "
            "or drop the others."
        )


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping) and bool({"text", "sentence1", *COLUMNS} & set(value))


def _is_cell(value: Any) -> bool:
    single = isinstance(value, str | bytes | bytearray | Mapping) or hasattr(value, "read")
    return single or not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0
