"""One type for each column of a folder of Parquet or Arrow files, whichever of them is read first."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from .places import Place
from .table_files import schema_of
from .written_times import is_text

FOOTERS = 16  # read at once: on a store each is a request


def joint_types(
    files: Sequence[Place], is_read: Callable[[str], bool], keeps_bytes: Callable[[str], bool]
) -> dict[str, pa.DataType]:
    """Return the types of columns of the first file that hold the values of all files: the wider of two.

    Whole numbers beside fractions become floats, dates beside times times; a column without a value has the type that
    others have.

    Args:
        files: Parquet or Arrow files.
        is_read: whether a column is looked at; others are left as they are.
        keeps_bytes: see `read_blocks`.

    Raises:
        ValueError: if a column is one thing in one file and another in another (numbers and texts, numbers and
            times), of which none can be read as the other.
    """
    with ThreadPoolExecutor(FOOTERS) as pool:
        schemas = [*pool.map(lambda file: schema_of(file, keeps_bytes), files)]
    types = {field.name: field.type for field in schemas[0] if is_read(field.name)}
    whose = dict.fromkeys(types, files[0])
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        for field in schema:
            before = types.get(field.name)
            if before is None or before == field.type:
                continue
            both = _wider(before, field.type)
            if both is None:
                times = any(map(pa.types.is_temporal, (before, field.type)))
                remedy = "" if times else f", or say what they become: `types: {{{field.name}: string}}` (or float)"
                raise ValueError(
                    f"Expected one type in column {field.name!r} of all files, found {before} in "
                    f"{str(whose[field.name])!r} and {field.type} in {str(file)!r}. Write them alike{remedy}."
                )
            if both != before:
                types[field.name], whose[field.name] = both, file
    return types


def with_types(table: pa.Table, types: Mapping[str, pa.DataType], path: Place) -> pa.Table:
    """Return a table whose columns have the types that are given for their names.

    Raises:
        ValueError: if a value does not fit its type, naming the column.
    """
    for place, field in enumerate(table.schema):
        wanted = types.get(field.name, field.type)
        if wanted == field.type or _are_times(wanted, field.type):
            continue
        try:
            column = table.column(place).cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(
                f"Expected values of type {wanted} in column {field.name!r} of {str(path)!r}, as in other files of the "
                f"folder, found {field.type} ({error}). Write them alike."
            ) from error
        table = table.set_column(place, field.name, column)
    return table


def _wider(one: Any, other: Any) -> Any:
    """Return a type that holds what two types hold; None: there is none."""
    if _are_times(one, other):
        return one
    kinds = [pa.timestamp("us") if pa.types.is_date(kind) else kind for kind in (one, other)]
    if all(pa.types.is_date(kind) for kind in (one, other)):
        return pa.date32()
    try:
        schemas = [pa.schema([("column", kind)]) for kind in kinds]
        return pa.unify_schemas(schemas, promote_options="permissive").field("column").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def _are_times(one: Any, other: Any) -> bool:
    """Whether two types are read file by file: times of different zones, and times beside texts that are some."""
    kinds = (one, other)
    zones = all(pa.types.is_timestamp(kind) and kind.tz is not None for kind in kinds)
    return zones or (any(map(pa.types.is_temporal, kinds)) and any(map(is_text, kinds)))
