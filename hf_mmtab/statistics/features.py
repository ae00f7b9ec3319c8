"""Statistics of the past of table rows, for any column plan: of the row itself, and of what came before it.

Everything is known when the row happens: its own cells, and rows before it. Frequencies of values are counted in the
training rows. Labels are no statistic unless it is said how long after its row a label is known (`label_lag`): then
those of rows that are old enough are.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from .columns import MISSING, TableColumns
from .earlier import Earlier, together, without_rounding

STRETCH_ROWS = (3, 5, 10)
STRETCH_SECONDS = {"hour": 3600.0, "day": 86_400.0, "week": 7 * 86_400.0}
STATE_SECONDS = {"hour": 3600.0, "3 hours": 3 * 3600.0, "day": 86_400.0}
MOST_COUNTED = 100
# Of a row: the codes of its categories, and its numbers. Of its past: what all histories had lately, what they usually
# have, and how dense and how unlike in values and numbers its own history was; labels that are old enough to be known.
OF_A_ROW = ("category", "row")
OF_ORDERINGS = "orderings"  # how unexpected a row is among those of its merchant, its destination
LATELY, USUAL, LABELS = "lately", "usual", "labels"
OF_THE_PAST = (LATELY, USUAL, LABELS, "rhythm", "values", "numbers")
GROUPS = (*OF_A_ROW, OF_ORDERINGS, *OF_THE_PAST)
OF_ALL_HISTORIES = (OF_ORDERINGS, LATELY, USUAL, LABELS)
OF_ONE_HISTORY = tuple(group for group in GROUPS if group not in OF_ALL_HISTORIES)

Feature = tuple[str, np.ndarray]


def of_other_histories(statistics: Mapping[str, Any], entity: Sequence[str]) -> list[str]:
    """Say which statistics read rows beyond the row's own history: those of all histories, and of its leading parts.

    Args:
        statistics: as `RowStatistics.to_dict` gives them.
        entity: columns of the plan.
    """
    leading = ["/".join(entity[:count]) for count in range(1, len(entity))]
    of_leading = [name for name in leading if any(one.startswith(f"{name}: ") for one in statistics["names"])]
    groups = [group for group in OF_ALL_HISTORIES if group in statistics["groups"]]
    return [*(f"group {name}" for name in groups), *(f"those of the {name}" for name in of_leading)]


def row_features(columns: TableColumns) -> Iterator[Feature]:
    """Yield the features of a row alone: numbers, calendar parts, how frequent its values are.

    Args:
        columns: of all rows, with what `RowStatistics.complete` adds.

    Yields:
        Name and `(rows,)` float values, NaN where missing.
    """
    for name, values in columns.numbers.items():
        yield name, values
    for name, values in columns.numbered.items():
        yield f"{name} as a number", values
    for name, codes in columns.categories.items():
        if name in columns.periods:
            yield name, np.where(codes == MISSING, np.nan, codes)
        else:
            yield f"{name}: log frequency", np.log(columns.shares[name])


def history_features(columns: TableColumns, groups: Collection[str] = GROUPS) -> Iterator[Feature]:
    """Yield the features of a row's past, beyond `row_features`.

    For each history that the row belongs to (the entity, and its leading columns: card and user): how long, how dense,
    and for each value and number how unlike what came before. Besides: how much and what happened lately at the same
    value (an airport's last hours), and how a number differs from what the value has usually. Hours and days are those
    of the time column; where there is none, nothing is counted by them.

    Yields as `row_features`.

    Args:
        columns: as in `row_features`.
        groups: those of `OF_THE_PAST` that are wanted.
    """
    if not set(groups) & set(OF_THE_PAST):
        return
    chronological = np.argsort(columns.time, kind="stable")
    # Rows of one time keep their order in the history, because the sort is stable and rows of a history lie in order.
    back = np.empty_like(chronological)
    back[chronological] = np.arange(len(back))
    view = columns.take(chronological)
    numbers = comparable_numbers(view)
    of_all: dict[str, Iterator[Feature]] = {
        LATELY: _of_all(LATELY, view, numbers),
        USUAL: _number_residuals(view, numbers),
        LABELS: _old_labels(view, numbers),
    }
    for group, made in of_all.items():
        if group in groups:
            for name, values in made:
                yield name, values[back]
    for history in view.histories:
        prefix = f"{history}: " if history else ""
        past = _past(view, history)
        of_one: dict[str, Iterator[Feature]] = {
            "rhythm": _rhythm(past, view.time, view.has_time),
            "values": _unlike_values(past, history, view),
            "numbers": _unlike_numbers(past, history, view, numbers),
        }
        for name, values in chain.from_iterable(of_one[group] for group in of_one if group in groups):
            yield prefix + name, values[back]


def _past(columns: TableColumns, history: str, *values: np.ndarray) -> Earlier:
    """Return the earlier rows of a history, or those of them that have a row's values.

    Of rows of the same time, those of the whole entity that stand before count; between the cards of a user nobody
    knows which came first.
    """
    group = columns.histories[history]
    is_whole = history == next(iter(columns.histories))
    return Earlier(together(group, *values) if values else group, columns.moments, ties=is_whole)


def comparable_numbers(columns: TableColumns) -> dict[str, np.ndarray]:
    """Numbers on the scale in which they are compared: amounts by their (signed) logarithm."""
    return {
        name: np.sign(values) * np.log1p(np.abs(values)) if name in columns.logarithmic else values
        for name, values in columns.numbers.items()
    }


def _rhythm(past: Earlier, time: np.ndarray, has_time: bool) -> Iterator[Feature]:
    """How many rows the history has had, and how densely."""
    # The age of a history, and counts without end, would only say how late it is: later than any training row.
    seconds = time / 1e6
    yield "rows before", np.minimum(past.count(), MOST_COUNTED)
    for rows in (1, 2, *STRETCH_ROWS) if has_time else ():
        yield f"log seconds since row -{rows}", _log(seconds - past.nth(seconds, rows))
    for name, length in STRETCH_SECONDS.items() if has_time else ():
        yield f"rows of the last {name}", past.count(seconds=length)


def _log(seconds: np.ndarray) -> np.ndarray:
    return np.log1p(np.maximum(0, seconds))


def _unlike_values(past: Earlier, history: str, columns: TableColumns) -> Iterator[Feature]:
    """For each category: how often and when the history had this value, and how surprising its last rows are."""
    seconds, before = columns.time / 1e6, past.count()
    for name, codes in columns.categories.items():
        same = _past(columns, history, codes)
        count = same.count()
        expected = (count + columns.shares[name]) / (before + 1)
        surprise, new = -np.log(expected), ((count == 0) & (before > 0)).astype(np.float64)
        yield f"{name}: rows before with this value", np.minimum(count, MOST_COUNTED)
        yield f"{name}: surprise", surprise
        if columns.has_time:
            yield f"{name}: log seconds since this value", _log(seconds - same.nth(seconds))
        for rows in STRETCH_ROWS:
            yield f"{name}: mean surprise of {rows} rows", past.mean(surprise, rows=rows - 1, inclusive=True)
        yield f"{name}: new values in 10 rows", past.total(new, rows=9, inclusive=True)
        for stretch in ("hour", "day") if columns.has_time else ():
            length = STRETCH_SECONDS[stretch]
            yield f"{name}: new values of the last {stretch}", past.total(new, seconds=length, inclusive=True)
            yield (f"{name}: surprise of the last {stretch}", past.total(surprise, seconds=length, inclusive=True))
            yield f"{name}: rows of the last {stretch} with this value", same.count(seconds=length)
        if name in columns.periods:
            yield f"{name}: distance from the usual", _cyclic_distance(past, codes, columns.periods[name])


def _cyclic_distance(past: Earlier, codes: np.ndarray, period: int) -> np.ndarray:
    """How far a calendar part lies from the circular mean of the earlier ones, in its units (hours: 0 to 12)."""
    angle = np.where(codes == MISSING, np.nan, codes * (2 * np.pi / period))
    usual = np.arctan2(past.mean(np.sin(angle)), past.mean(np.cos(angle)))
    return np.abs(np.angle(np.exp(1j * (angle - usual)))) * period / (2 * np.pi)


def _unlike_numbers(
    past: Earlier, history: str, columns: TableColumns, numbers: dict[str, np.ndarray]
) -> Iterator[Feature]:
    """For each number: against the history's mean and spread, its last rows, and its rows of the same value."""
    for name, values in numbers.items():
        mean, spread = past.mean(values), past.deviation(values)
        beyond = _beyond(values, mean)
        yield f"{name}: beyond the mean before", beyond
        yield f"{name}: deviations from the mean before", beyond / (spread + 1e-3)
        yield f"{name}: beyond the row before", values - past.nth(values)
        yield f"{name}: of the row before", past.nth(values)
        for rows in STRETCH_ROWS:
            yield f"{name}: mean of {rows} rows", past.mean(values, rows=rows - 1, inclusive=True)
        for stretch in ("hour", "day") if columns.has_time else ():
            raw = columns.numbers[name]
            yield (
                f"{name}: sum of the last {stretch}",
                past.total(raw, seconds=STRETCH_SECONDS[stretch], inclusive=True),
            )
    for category, codes in columns.categories.items():
        if category in columns.periods:
            continue
        same = _past(columns, history, codes)
        for name, values in numbers.items():
            yield f"{name}: beyond the mean before at this {category}", _beyond(values, same.mean(values))


def _beyond(values: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return how far values lie from means."""
    return without_rounding(values - mean, 1e3 * np.abs(values))  # means come from long sums


def valued(columns: TableColumns) -> dict[str, np.ndarray]:
    """Return the categories of which rows with one value are compared: calendar parts are none."""
    return {name: codes for name, codes in columns.categories.items() if name not in columns.periods}


def _of_all(group: str, columns: TableColumns, numbers: dict[str, np.ndarray]) -> Iterator[Feature]:
    """Yield what `OF_ALL` makes for a group, or, of rows in shards, what was made for all shards before."""
    if columns.of_all:
        named = ((name.removeprefix(f"{group}|"), name) for name in columns.of_all if name.startswith(f"{group}|"))
        return ((title, columns.of_all[name]) for title, name in named)
    return OF_ALL[group](columns, numbers)


def _number_residuals(columns: TableColumns, numbers: dict[str, np.ndarray]) -> Iterator[Feature]:
    """For each number and category: against what all earlier rows of the value had, and against how far this history
    usually lies from that.
    """
    pairs = [(category, name) for category in valued(columns) for name in numbers]
    for (category, name), (title, residual) in zip(pairs, _of_all(USUAL, columns, numbers), strict=True):
        yield title, residual
        for history in columns.histories:
            past, prefix = _past(columns, history), f"{history}: " if history else ""
            yield f"{prefix}{name}: beyond its usual residual at {category}", _beyond(residual, past.mean(residual))


def _everybody_residuals(columns: TableColumns, numbers: dict[str, np.ndarray]) -> Iterator[Feature]:
    """For each number and category: against what all earlier rows of the value had."""
    for category, codes in valued(columns).items():
        anyone = Earlier(codes, columns.moments, ties=False)
        for name, values in numbers.items():
            mean = anyone.mean(values, before=columns.before.get((category, name)))
            yield f"{name}: beyond everybody's mean at this {category}", _beyond(values, mean)


def _values_lately(columns: TableColumns, numbers: dict[str, np.ndarray]) -> Iterator[Feature]:
    """For each value: how many rows, and which mean of each number, all histories together had lately; against the
    usual.
    """
    for category, codes in valued(columns).items():
        if category in columns.crowded:
            continue
        anyone = Earlier(codes, columns.moments, ties=False)
        for stretch, length in STATE_SECONDS.items() if columns.has_time else ():
            yield f"rows of the last {stretch} at this {category}", anyone.count(seconds=length)
            for name, values in numbers.items():
                mean = anyone.mean(values, seconds=length)
                yield f"{name}: mean of the last {stretch} at this {category}", mean


def _old_labels(columns: TableColumns, numbers: dict[str, np.ndarray]) -> Iterator[Feature]:
    """For each history and value: how many labels are known, and their mean, drawn towards that of all known labels.

    A label counts for rows that happen `label_lag` after its own or later: no row sees its own label, nor a later one.
    """
    if columns.label_lag is None:
        return
    of_all = _of_all(LABELS, columns, numbers)
    pasts = {f"{history}: " if history else "": _past(columns, history) for history in columns.histories}
    for target in columns.labels:
        _, usual = next(of_all)
        for prefix, past in pasts.items():
            yield from _known_labels(columns, target, usual, past, prefix=prefix)
        yield from islice(of_all, 2 * len(valued(columns)))


def _labels_at_values(columns: TableColumns, numbers: dict[str, np.ndarray]) -> Iterator[Feature]:
    """For each target: the mean of all known labels, and what is known at each value."""
    assert columns.label_lag is not None
    everybody = Earlier(np.zeros(len(columns), dtype=np.int64), columns.moments)
    pasts = {name: Earlier(codes, columns.moments) for name, codes in valued(columns).items()}
    for target in columns.labels:
        total, counted = _old_totals(columns, target, everybody, EVERYBODY)
        usual = np.divide(total, counted, out=np.full(len(columns), np.nan), where=counted > 0)
        yield target, usual
        for category, past in pasts.items():
            yield from _known_labels(columns, target, usual, past, category=category)


def _known_labels(
    columns: TableColumns, target: str, usual: np.ndarray, past: Earlier, prefix: str = "", category: str = ""
) -> Iterator[Feature]:
    """How many labels are known in a group, and their mean, drawn towards the usual one."""
    total, count = _old_totals(columns, target, past, category)
    suffix = f" at this {category}" if category else ""
    yield f"{prefix}{target}: known labels{suffix}", np.minimum(count, MOST_COUNTED)
    yield f"{prefix}{target}: mean of known labels{suffix}", (total + usual) / (count + 1)


def _old_totals(columns: TableColumns, target: str, past: Earlier, category: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the labels that are old enough, and how many there are, `(rows,)` each."""
    assert columns.label_lag is not None
    values, before = columns.labels[target], columns.before.get((category, target))
    counted, words = (None, None) if before is None else (before[:1], before[1:])
    total = past.total_before(values, columns.label_lag, words)
    return total, past.total_before(np.isfinite(values), columns.label_lag, before=counted)


EVERYBODY = ""  # the category of which all rows have one value
OF_ALL: dict[str, Callable[[TableColumns, dict[str, np.ndarray]], Iterator[Feature]]] = {
    LATELY: _values_lately,
    USUAL: _everybody_residuals,
    LABELS: _labels_at_values,
}
