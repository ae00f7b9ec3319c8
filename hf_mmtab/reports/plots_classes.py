"""Which classes are taken for which, and how each class fares."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve

from ..evaluation.decoded_histories import as_text
from .style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    ORANGE,
    PALE,
    WIDTH,
    draw_steps,
    margin_note,
    new_axes,
    note,
    styled,
    unit_axes,
)

BLUES = LinearSegmentedColormap.from_list("white to blue", ["#ffffff", "#c6dcec", "#5a9fcc", "#004e80"])
FEW_CLASSES = 30  # up to here the numbers in a matrix are read, beyond it the matrix is looked at


def confusion_counts(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts, shape `(true, predicted)`."""
    cells = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def confused_pairs(counts: np.ndarray, names: Mapping[int, str], most: int = 10) -> list[dict[str, Any]]:
    """The most frequent mistakes: true and predicted class, how often, and its share of the true class."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(i, wrong.shape) for i in order]
    keys = ("true", "predicted", "count", "share")
    mistakes = [(int(t), int(p), int(wrong[t, p])) for t, p in pairs if wrong[t, p]]
    rows = [(names[t], names[p], count, count / counts[t].sum()) for t, p, count in mistakes]
    return [dict(zip(keys, row, strict=True)) for row in rows]


@styled
def confusion_matrix(counts: np.ndarray, names: Mapping[int, str]) -> Figure:
    """Rows are the true class and sum to 1 in colour; the counts stand in the cells."""
    size = len(counts)
    few = size <= FEW_CLASSES
    inches = max(0.42 * size, 1.4) if few else 0.2 * size
    longest = max(len(as_text(name)) for name in names.values())
    margin = 0.9 + 0.065 * longest
    figure, axes = new_axes(inches + margin, max(3.2, inches + margin + 0.6))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap=BLUES, vmin=0, vmax=1, interpolation="nearest")
    font = 8 if few else 5.5
    for t, p in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[t, p] > 0.65 else INK
        axes.text(p, t, f"{counts[t, p]:,}", ha="center", va="center", fontsize=font, color=colour)
    labels = [as_text(names[i]) for i in range(size)]
    font = 8.5 if few else 6.5
    rotation, side = (90, "center") if size > 6 else (35, "right")
    axes.set_xticks(range(size), labels, rotation=rotation, ha=side, fontsize=font)
    axes.set_yticks(range(size), labels, fontsize=font)
    if few:
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=PALE, linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted", ylabel="true")
    if size > 3:
        bar = figure.colorbar(picture, ax=axes, shrink=min(1.0, 3 / max(inches, 1)), aspect=14, pad=0.02)
        bar.set_label("share of the true class")
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@styled
def label_bars(table: Sequence[Mapping[str, Any]]) -> Figure:
    """F1 and average precision of each label, labels with the most rows first."""
    rows = sorted(table, key=lambda row: -row["support"])
    figure, axes = new_axes(0.9 + 0.24 * len(rows))
    for i, row in enumerate(rows):
        if row["f1"] is not None:
            axes.barh(i, row["f1"], height=0.62, color=BLUE, label="F1 at the threshold" if i == 0 else None)
        if row["average_precision"] is not None:
            label = "average precision" if i == 0 else None
            axes.plot(row["average_precision"], i, "D", color=ORANGE, markersize=5, label=label, clip_on=False)
        margin_note(axes, f"{row['support']:,}", i, color=GREY)
    margin_note(axes, "rows", -0.9, color=GREY)
    axes.set_yticks(range(len(rows)), [as_text(row["label"]) for row in rows])
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.7))
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return figure


@styled
def precision_recall(truth: np.ndarray, probabilities: np.ndarray, table: Sequence[Mapping[str, Any]]) -> Figure | None:
    """One curve per class: thin and grey, the best, middle and worst named; few are all named."""
    shown = [i for i, row in enumerate(table) if row["average_precision"] is not None]
    if not shown:
        return None
    shown.sort(key=lambda i: -table[i]["average_precision"])
    middle = len(shown) // 2
    named = shown if len(shown) <= 5 else [*shown[:2], shown[middle], *shown[-2:]]
    figure, axes = new_axes(4.4)
    for i in shown:
        if i not in named:
            precision, recall, _ = precision_recall_curve(truth[:, i], probabilities[:, i])
            draw_steps(axes, recall, precision, color=PALE, linewidth=0.9)
    for colour, i in zip(COLOURS, named, strict=False):
        precision, recall, _ = precision_recall_curve(truth[:, i], probabilities[:, i])
        label = f"{as_text(table[i]['label'])}  {table[i]['average_precision']:.2f}"
        draw_steps(axes, recall, precision, color=colour, label=label)
    unit_axes(axes, "recall", "precision")
    some = "" if len(named) == len(shown) else "\nbest two, middle, worst two"
    _legend_beside(axes, f"average precision{some}")
    return figure


@styled
def binary_precision_recall(
    labels: np.ndarray, scores: np.ndarray, threshold: float, others: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """The curve, the share of positives that a guess would reach, and where the saved threshold stands.

    Args:
        labels: 0 and 1, shape `(rows,)`.
        scores: of class 1.
        threshold: saved with the model.
        others: name → scores of other models for the same rows, drawn thinner.
    """
    precision, recall, _ = precision_recall_curve(labels, scores)
    base = float(labels.mean())
    figure, axes = new_axes(4.2, WIDTH if others else 5.4)
    ranked = sorted((others or {}).items(), key=lambda one: -average_precision_score(labels, one[1]))
    for colour, (name, other) in zip((*COLOURS[2:], INK, *[GREY] * len(ranked)), ranked, strict=False):
        theirs, reached, _ = precision_recall_curve(labels, other)
        label = f"{as_text(name)}  {average_precision_score(labels, other):.3f}"
        draw_steps(axes, reached, theirs, color=colour, linewidth=1.3, label=label)
    own = f"this model  {average_precision_score(labels, scores):.3f}"
    draw_steps(axes, recall, precision, color=BLUE, linewidth=2.2 if others else 1.8, label=own)
    axes.axhline(base, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    note(axes, f"guessing {base:.2%}", (0, base), (2, 4), color=GREY)
    chosen = scores >= threshold
    if chosen.any():
        at = (labels[chosen].sum() / labels.sum(), labels[chosen].mean())
        axes.plot(*at, "o", color=ORANGE, markersize=8)
        left = at[0] > 0.3  # below and to the left of a point, the area under the curve is empty
        low = at[1] < 0.12  # below it lie the axis and its ticks, right above it the share of a guess
        offset = (-9 if left else 9, 18 if low else -12)
        shown = {"fontsize": 8.5, "ha": "right" if left else "left", "color": ORANGE}
        note(axes, f"threshold {threshold:.3g}", at, offset, **shown)
    unit_axes(axes, "recall", "precision")
    if others:
        handles, texts = axes.get_legend_handles_labels()
        _legend_beside(axes, "average precision", [handles[-1], *handles[:-1]], [texts[-1], *texts[:-1]])
    else:
        axes.set_title(f"average precision {average_precision_score(labels, scores):.3f}")
    return figure


def _legend_beside(axes: Axes, title: str, *entries: Any) -> None:
    axes.legend(*entries, loc="center left", bbox_to_anchor=(1.02, 0.5), title=title, alignment="left")
