"""What of the data the files of a model hold: told before they are sent."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME

from ..files import read_json

# as TabBertProcessor names them
_PROCESSOR = "preprocessor_config.json"
VALUES_NAME, ARRAYS_NAME = "tabbert_values.json", "tabbert_arrays.safetensors"
STATISTICS_NAME = "tabbert_statistics.json"
SHOWN = 5  # names of labels
NEARLY_ALL = 0.5  # values per row from which on a field looks like a name of the row
# Values of a field that never changes in an entity, from which on it looks like a name of the entity.
STATIC_VALUES = 50

_OF_RUN = "name of the data's file or folder; metrics, counts and dates of rows; names of labels and fields"
_HELD = {
    "README.md": f"{_OF_RUN}; the recipe",
    "recipe.yaml": "names of files and columns",
    "results.json": _OF_RUN,
    "freeze_schedule.json": "nothing",
    "tokenizer.json": "words that the tokenizer knows",
    "vocab.txt": "words that the tokenizer knows",
    "tokenizer_config.json": "nothing",
    ARRAYS_NAME: "edges of bins, and values that occur, of numbers",
}


def describe_file(folder: Path, name: str, examples: bool = False) -> str:
    """Say what of the data one file of a run holds; `name` may lie in a folder, as encoders of orderings do."""
    file = folder / name
    if file.name in _HELD:
        return _HELD[file.name]
    if file.name == CONFIG_NAME:
        return _labels(_read_json(file))
    if file.name == PROCESSOR_NAME:
        return _columns_in_words(_read_json(file).get("columns") or {})
    if file.name in (VALUES_NAME, STATISTICS_NAME):
        values = _read_json(file) if file.name == VALUES_NAME else _counted_values(file)
        fields = [f"{field} ({len(known):,})" for field, known in values.items()]
        counted = " and how often each occurs" if file.name == STATISTICS_NAME else ""
        return f"VALUES as they stand in the data{counted}, of {', '.join(fields)}" if fields else "nothing"
    if file.name.endswith(".txt") and "_trees_" in file.name:
        return "boosted trees, learned from the data: numbers at which they branch"
    if file.name == _PROCESSOR:
        plan = _read_json(file).get("plan") or {}
        return "names of columns; lowest and highest number of each field" if plan else "nothing"
    if name.endswith(".safetensors"):
        return "weights, learned from the data"
    if name.endswith("report.html"):
        rows = "ROWS, TEXTS AND PICTURES of the data (examples); " if examples else ""
        return f"{rows}{_OF_RUN}"
    if name.endswith(".png"):
        return "metrics, counts and dates; names of labels and fields"
    is_code = name.endswith((".py", ".index.json"))
    return "nothing" if is_code else "as the tokenizer or the picture reader saved it"


def vocabulary_warnings(folder: Path) -> list[str]:
    """Name the fields whose saved values look like names of rows or entities."""
    columns = _read_json(folder / PROCESSOR_NAME).get("columns") or {}
    many = {name: len(one["values"]) for name, one in columns.items() if len(one.get("values", [])) >= STATIC_VALUES}
    warnings = [_vocabulary_warning(name, "has many values", number, PROCESSOR_NAME) for name, number in many.items()]
    processor = _read_json(folder / _PROCESSOR)
    plan, rows = processor.get("plan") or {}, processor.get("rows_fitted") or 0
    settings = {field["name"]: field for field in plan.get("fields", [])}
    for field, (file, number) in _saved_values(folder, list(settings)).items():
        if field in (plan.get("entity") or []):
            reason = "is the entity column"
        elif rows and number >= NEARLY_ALL * rows:
            reason = f"has nearly as many values as there are rows ({rows:,})"
        elif settings.get(field, {}).get("static") and number >= STATIC_VALUES:
            reason = "never changes within an entity"
        else:
            continue
        warnings.append(_vocabulary_warning(field, reason, number, file))
    return warnings


def _vocabulary_warning(name: str, reason: str, number: int, file: str) -> str:
    return (
        f"Field {name!r} {reason}: its {number:,} values, as they stand in the data, are in {file}. If they name "
        "persons, leave the field out and train again."
    )


def _columns_in_words(columns: dict[str, dict[str, list[Any]]]) -> str:
    """Say what MMBT's processor holds of the columns beside picture and text."""
    values = [f"{name} ({len(one['values']):,})" for name, one in columns.items() if "values" in one]
    numbers = [name for name, one in columns.items() if "quantiles" in one]
    told = [f"VALUES as they stand in the data, of {', '.join(values)}"] if values else []
    told += [f"quantiles of {', '.join(numbers)}"] if numbers else []
    return "; ".join(told) or "nothing"


def _saved_values(folder: Path, fields: list[str]) -> dict[str, tuple[str, int]]:
    """Return the file and the number of the saved values of each field: texts, and numbers that are categories."""
    counted = _counted_values(folder / STATISTICS_NAME)
    saved = {field: (STATISTICS_NAME, len(values)) for field, values in counted.items()}
    saved |= {field: (VALUES_NAME, len(values)) for field, values in _read_json(folder / VALUES_NAME).items()}
    if (folder / ARRAYS_NAME).is_file():
        with safe_open(folder / ARRAYS_NAME, "numpy") as arrays:
            for name in arrays.keys():  # noqa: SIM118
                place, _, what = name.partition(".")
                if what == "values":
                    saved[fields[int(place)]] = (ARRAYS_NAME, arrays.get_slice(name).get_shape()[0])
    return saved


def _counted_values(file: Path) -> dict[str, list[Any]]:
    """Return field → values, where statistics of the past keep how often each occurred in training."""
    counts = _read_json(file).get("counts") or {}
    return {field: [value for value, _ in pairs] for field, pairs in counts.items()}


def _labels(config: dict[str, Any]) -> str:
    names = [str(name) for name in (config.get("id2label") or {}).values()]
    if not names or names == [f"LABEL_{number}" for number in range(len(names))]:
        return "names of fields" if config.get("fields") else "nothing"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"names of labels: {', '.join(names[:SHOWN])}{more}"


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, "Save the model again.")
