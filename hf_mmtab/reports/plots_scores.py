"""Whether probabilities can be believed, scores over time, predicted against true values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from ..metrics.calibration import calibration_bins, expected_calibration_error
from .style import BLUE, GREY, INK, ORANGE, PALE, new_axes, new_figure, plain_log_ticks, styled, unit_axes

RARE = 0.05  # below this share of positives, calibration is read on logarithmic axes


def wilson(share: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share (Wilson 1927)."""
    z2 = 1.96**2
    middle = (share + z2 / (2 * counts)) / (1 + z2 / counts)
    half = 1.96 / (1 + z2 / counts) * np.sqrt(share * (1 - share) / counts + z2 / (4 * counts**2))
    return middle - half, middle + half


@styled
def calibration(confidence: np.ndarray, right: np.ndarray, x: str, y: str) -> Figure:
    """Observed share over predicted probability with 95 % intervals, and how many rows each bin holds."""
    rare = bool(0 < right.mean() < RARE)
    mean, share, counts = calibration_bins(confidence, right, by_positives=rare)
    low, high = wilson(share, counts)
    figure = new_figure(4.6, 4.9)
    axes, histogram = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    axes.plot([1e-9, 1], [1e-9, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    bars = np.maximum(0, [share - low, high - share])
    axes.errorbar(mean, share, yerr=bars, color=BLUE, marker="o", markersize=5, linewidth=1.4, elinewidth=1)
    unit_axes(axes, "", y)
    axes.set_aspect("auto")
    if rare:
        floor = max(1e-6, min(mean.min(), share[share > 0].min()) / 2)
        top = min(1.2, 3 * max(mean.max(), high.max(), float(confidence.max())))
        axes.set(xscale="log", yscale="log", xlim=(floor, top), ylim=(floor, top))
        edges = np.geomspace(floor, 1, 41)
    else:
        axes.set_title(f"expected calibration error {expected_calibration_error(confidence, right):.3f}")
        edges = np.linspace(0, 1, 21)
    shown = np.maximum(confidence, edges[0])
    histogram.hist(shown, bins=edges.tolist(), color=PALE, edgecolor="white", linewidth=0.4)
    histogram.set(xlabel=x, ylabel="rows")
    if rare:
        histogram.set_yscale("log")
        histogram.set_ylim(bottom=0.7)
    histogram.set_ylim(top=histogram.get_ylim()[1] * 1.05)
    if rare:
        plain_log_ticks(axes.xaxis)
        plain_log_ticks(axes.yaxis)
        plain_log_ticks(histogram.yaxis, only_decades=True)
    return figure


@styled
def score_histogram(labels: np.ndarray, scores: np.ndarray, threshold: float, names: Mapping[int, str]) -> Figure:
    """How many rows of both classes got which probability, on a logarithmic axis; the line is the threshold."""
    rare = bool(0 < labels.mean() < RARE)
    floor = max(1e-6, float(np.quantile(scores[scores > 0], 0.001))) if rare and (scores > 0).any() else 0.0
    edges = np.geomspace(floor, 1, 41) if rare else np.linspace(0, 1, 41)
    figure, axes = new_axes(3.0)
    shown = np.clip(scores, edges[0], 1)
    for value, colour, name in ((0, GREY, names[0]), (1, ORANGE, names[1])):
        rows = shown[labels == value]
        look: Any = {"color": colour, "alpha": 0.6 if value else 0.35, "linewidth": 0}
        axes.hist(rows, bins=edges.tolist(), label=f"{name}: {len(rows):,} rows", **look)
    if edges[0] <= threshold <= 1:
        label = f"threshold {threshold:.3g}"
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=label)
    axes.set(yscale="log", ylabel="rows", xlabel=f"predicted probability of {names[1]}", ylim=(0.7, None))
    if rare:
        axes.set(xscale="log", xlim=(edges[0], 1.1))
        plain_log_ticks(axes.xaxis)
    plain_log_ticks(axes.yaxis, only_decades=True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)
    return figure


@styled
def score_over_time(times: np.ndarray, labels: np.ndarray, scores: np.ndarray, positive: str) -> Figure | None:
    """Mean score, observed share of positives and number of rows per stretch of time."""
    times = times.astype("datetime64[s]")
    known = ~np.isnat(times)
    seconds, labels, scores = times[known].astype(np.int64), labels[known], scores[known]
    if not len(seconds) or seconds.min() == seconds.max():
        return None
    num_bins = int(np.clip(len(seconds) // 200, 4, 40))
    edges = np.linspace(seconds.min(), seconds.max() + 1, num_bins + 1)
    bins = np.searchsorted(edges, seconds, side="right") - 1
    counts = np.bincount(bins, minlength=num_bins)
    held = counts > 0
    middle = ((edges[:-1] + edges[1:]) / 2)[held].astype("datetime64[s]")
    share = np.bincount(bins, labels, minlength=num_bins)[held] / counts[held]
    mean = np.bincount(bins, scores, minlength=num_bins)[held] / counts[held]
    low, high = wilson(share, counts[held])
    figure = new_figure(3.6)
    axes, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
    axes.fill_between(middle, low, high, color=BLUE, alpha=0.16, linewidth=0)
    axes.plot(middle, share, color=BLUE, label=f"observed share of {positive} (band: 95 %)")
    axes.plot(middle, mean, color=ORANGE, label="mean predicted probability")
    axes.set_ylim(bottom=0)
    axes.grid(True, axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    axes.set_ylabel("share")
    width = np.diff(edges[:2]).astype("timedelta64[s]")[0]
    histogram.bar(middle, counts[held], width=width * 0.92, color=PALE)
    histogram.set_ylabel("rows")
    locator = AutoDateLocator()
    histogram.xaxis.set_major_locator(locator)
    histogram.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return figure


@styled
def predicted_against_true(labels: np.ndarray, values: np.ndarray, names: list[str]) -> Figure:
    """One panel per target; darker where more rows lie."""
    targets = labels.reshape(len(labels), -1)
    columns = min(3, targets.shape[1])
    rows = -(-targets.shape[1] // columns)
    figure = new_figure(0.4 + 3.1 * rows, min(7.6, 0.6 + 3.5 * columns))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for i, axes in enumerate(grid):
        if i >= targets.shape[1]:
            axes.set_visible(False)
            continue
        known = np.isfinite(targets[:, i])
        true, predicted = targets[known, i], values[known, i]
        low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
        if len(true) > 2000:
            axes.hexbin(true, predicted, gridsize=45, bins="log", cmap="Blues", mincnt=1, linewidths=0.1)
        else:
            axes.plot(true, predicted, "o", color=BLUE, markersize=3.5, alpha=0.45, markeredgewidth=0)
        axes.plot([low, high], [low, high], color=INK, linewidth=1, linestyle=(0, (4, 3)))
        error = float(np.sqrt(np.mean((true - predicted) ** 2)))
        axes.set(xlabel=f"true {names[i]}", ylabel=f"predicted {names[i]}", title=f"RMSE {error:.3g}", aspect="equal")
        axes.grid(True)
    return figure
