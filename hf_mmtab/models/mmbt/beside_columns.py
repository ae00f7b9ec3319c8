"""Columns of numbers and categories beside picture and text: how they are learned, and what MMBT reads of them."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import logging

logger = logging.get_logger(__name__)

QUANTILES = 33  # of a column of numbers
SPREAD = math.sqrt(3)  # places between -SPREAD and SPREAD have deviation 1
MOST_CATEGORIES = 1000
MISSING, UNKNOWN = 0, 1  # ids of every column of categories; its values follow
UNKNOWN_PROBABILITY = 0.01  # of a training category to be read as unknown, so that [UNKNOWN] is trained
TRUTHS = ("false", "true")
LARGEST = float(np.finfo(np.float32).max)
_SPELLED = re.compile(r"-?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")
_DECIMALS = re.compile(r"(?<=\d)\.0+$")  # of a whole number
WIDTH = 64  # of the network that reads one number

Columns = dict[str, dict[str, list]]  # column → {"quantiles": numbers} or {"values": texts, the most frequent first}


def fit_columns(rows: Any, numbers: Sequence[str], categories: Sequence[str]) -> Columns:
    """Learn quantiles and values of columns from training rows.

    Args:
        rows: a `datasets.Dataset`.
        numbers: columns of numbers, also as text; empty cells are missing.
        categories: columns of texts, whole numbers or truth values.

    Raises:
        ValueError: if a column is absent, stands in both, has no value, or a cell is no number.
    """
    columns: Columns = {}
    for name in sorted([*numbers, *categories]):  # as JSON keeps them
        if name not in rows.column_names:
            raise ValueError(
                f"Expected a column {name!r}, as number_columns and category_columns say, found {rows.column_names}."
            )
        if name in columns or {*numbers} & {*categories}:
            raise ValueError(f"Expected each column once in number_columns or category_columns, found {name!r} twice.")
        cells = rows[name][:]
        if name in numbers:
            known = [one for one in (_number(cell, name) for cell in cells) if one is not None]
            values: list[Any] = np.unique(np.quantile(known, np.linspace(0, 1, QUANTILES))).tolist() if known else []
        else:
            counts = Counter(text for text in map(_category, cells) if text)
            values = [value for value, _ in counts.most_common(MOST_CATEGORIES)]
        if not values:
            raise ValueError(f"Expected values in the column {name!r} of the training rows, found none. Leave it out.")
        columns[name] = {"quantiles" if name in numbers else "values": values}
    return columns


def encode_columns(columns: Columns, row: Mapping[str, Any]) -> dict[str, list]:
    """Return the model's inputs of one row.

    Returns:
        `column_numbers`, a pair for each number: its place among the quantiles of training, mean 0 and deviation 1, and
        0, or 0 and 1 where it is missing. `column_categories`, an id for each category. Each if there are such columns.

    Raises:
        ValueError: if a column is absent, or a cell is no number.
    """
    if absent := [name for name in columns if name not in row]:
        raise ValueError(
            f"Expected the columns {', '.join(columns)} (None where a cell is missing), found no {', '.join(absent)}."
        )
    numbers: list[list[float]] = []
    categories: list[int] = []
    for name, learned in sorted(columns.items()):
        if "quantiles" in learned:
            value, edges = _number(row[name], name), learned["quantiles"]
            places = np.linspace(-SPREAD, SPREAD, len(edges)) if len(edges) > 1 else np.zeros(1)
            numbers.append([0.0, 1.0] if value is None else [float(np.interp(value, edges, places)), 0.0])
        else:
            categories.append(_category_id(row[name], learned["values"]))
    found: dict[str, list] = {"column_numbers": numbers, "column_categories": categories}
    return {name: values for name, values in found.items() if values}


def tell_unknown(columns: Columns, rows: Any) -> None:
    """Warn of categories that training never had, by column and share of the rows.

    Args:
        columns: of the processor.
        rows: a `datasets.Dataset` with these columns.
    """
    for name, learned in columns.items():
        if "values" not in learned or name not in rows.column_names or not len(rows):
            continue
        counts = Counter(map(_category, rows[name][:]))
        unknown = [text for text in counts if _category_id(text, learned["values"]) == UNKNOWN]
        if unknown:
            share = sum(counts[text] for text in unknown) / len(rows)
            shown = ", ".join(map(repr, sorted(unknown)[:5]))
            logger.warning_once(
                f"{share:.1%} of the rows have a value in {name!r} that training never had, such as {shown}: MMBT "
                "reads it as unknown."
            )


def _category_id(cell: Any, values: Sequence[str]) -> int:
    """Return the id of a category; whole numbers and truth values are the same however a file spells them."""
    text = _category(cell)
    if not text:
        return MISSING
    if text in values:
        return values.index(text) + 2
    alike = all(_truth(value) is not None for value in values)
    numbered = all(_spelled(value) is not None for value in values)  # else 1e3 may be a name
    for place, value in enumerate(values):
        same_number = _DECIMALS.sub("", value) == _DECIMALS.sub("", text) or (numbered and _same_number(value, text))
        same_truth = _truth(text) is not None and (
            value.lower() == text.lower() or (alike and _truth(value) == _truth(text))
        )
        if same_number or same_truth:
            return place + 2
    return UNKNOWN


def _spelled(text: str) -> float | None:
    """Return the number that a text spells; None for `007`, and for whole numbers that floats may not tell apart."""
    return float(text) if _SPELLED.fullmatch(text) and (len(text) <= 15 or "." in text) else None


def _same_number(one: str, other: str) -> bool:
    """Whether two texts spell one number, in another way or of fewer bits: 0.1, .1 and 0.10000000149 of 32 bits."""
    numbers = [_spelled(text) for text in (one, other)]
    if None in numbers:
        return False
    return len({np.float32(number) if max(len(one), len(other)) > 15 else number for number in numbers}) == 1


def _truth(text: str) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(_DECIMALS.sub("", text.lower()))


def _number(cell: Any, column: str) -> float | None:
    """Return a cell as a number, None where it is empty or not a number (NaN)."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        value = float(cell.replace("_", "?") if isinstance(cell, str) else cell)  # 1_000 is a number in Python alone
    except (TypeError, ValueError):
        value = math.inf
    if abs(value) > LARGEST:
        raise ValueError(
            f"Expected numbers up to 3.4e38 in the column {column!r}, found {cell!r:.80}. Correct it (a decimal "
            "point, no decimal comma), leave it empty, or name the column in category_columns."
        )
    return None if math.isnan(value) else value


def _category(cell: Any) -> str:
    """Return a cell as text, empty where it is missing; a whole number has no decimals."""
    if hasattr(cell, "__len__") and not isinstance(cell, str):
        raise ValueError(f"Expected single values in a column of categories, found {cell!r:.80}. Write a text.")
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool | np.bool_):
        return TRUTHS[int(cell)]
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


class NumberToken(nn.Module):
    """A number → a token of some size, by a network with one hidden layer of its own scale.

    Its units are spread over the places of numbers: at BERT's usual scale they would all but ignore the number.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.empty(2, WIDTH))
        self.shifts = nn.Parameter(torch.empty(WIDTH))
        self.output = nn.Linear(WIDTH, size)

    def init_weights(self) -> None:
        """Draw the hidden layer."""
        init.normal_(self.slopes)
        init.normal_(self.shifts)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Return tokens, `(batch, size)`, of a place and whether it is missing, `(batch, 2)`."""
        hidden = pairs.to(self.slopes.dtype) @ self.slopes + self.shifts  # (batch, WIDTH)
        return self.output(nn.functional.gelu(hidden))


class ColumnTokens(nn.Module):
    """A token for each column: a small network of each number, a vector of each category.

    NOTE[DIFF] Columns of numbers and categories may stand in the image part, behind the regions; the original has none.

    Args:
        numbers: how many columns of numbers.
        categories: values of each column of categories. Both kinds stand in the order of their names.
        size: of a token.
    """

    def __init__(self, numbers: int, categories: Sequence[int], size: int) -> None:
        super().__init__()
        self.numbers = nn.ModuleList(NumberToken(size) for _ in range(numbers))
        self.categories = nn.ModuleList(nn.Embedding(values + 2, size) for values in categories)

    def forward(self, numbers: torch.Tensor | None, categories: torch.Tensor | None) -> torch.Tensor:
        """Return the tokens, `(batch, columns, size)`.

        Args:
            numbers: pairs of place and whether it is missing, `(batch, columns of numbers, 2)`.
            categories: ids, `(batch, columns of categories)`.

        Raises:
            ValueError: if an input is absent or has another number of columns.
        """
        require_columns(self, numbers, categories)
        tokens = []
        if numbers is not None:
            tokens += [layer(numbers[:, place]) for place, layer in enumerate(self.numbers)]
        if categories is not None:
            if self.training:
                hidden = torch.rand(categories.shape, device=categories.device) < UNKNOWN_PROBABILITY
                categories = categories.masked_fill(hidden, UNKNOWN)
            tokens += [table(categories[:, place]) for place, table in enumerate(self.categories)]
        return torch.stack(tokens, dim=1)


def require_columns(tokens: ColumnTokens | None, numbers: torch.Tensor | None, categories: torch.Tensor | None) -> None:
    """Raise a ValueError unless an input has as many columns as the model reads; None: it reads none."""
    expected = [0, 0] if tokens is None else [len(tokens.numbers), len(tokens.categories)]
    given = [0 if one is None else one.shape[1] for one in (numbers, categories)]
    if given != expected:
        raise ValueError(
            f"Expected column_numbers of {expected[0]} and column_categories of {expected[1]} columns, found "
            f"{given[0]} and {given[1]}. Encode rows with the MMBTProcessor saved beside the model."
        )
