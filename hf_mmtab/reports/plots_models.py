"""This model beside others, beside guesses, and without one of its inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..evaluation.ablation import AblationRow
from ..evaluation.cell_baselines import FieldScore
from ..evaluation.comparison import ModelResult
from ..metrics.names import lower_is_better, metric_name
from .style import BLUE, GREY, INK, ORANGE, PALE, SKY, margin_note, new_axes, note, styled


@styled
def comparison_plot(models: Sequence[ModelResult], metric: str) -> Figure | None:
    """One line per model: a dot per seed, the mean as a bar mark, the interval over test rows as a line."""
    shown = [model for model in models if len(model.scores.get(metric, ()))]
    if len(shown) < 2:
        return None
    shown.sort(key=lambda model: np.mean(model.scores[metric]), reverse=not lower_is_better(metric))
    figure, axes = new_axes(0.8 + 0.34 * len(shown))
    for i, model in enumerate(shown):
        colour = BLUE if model.is_own else GREY
        values = np.asarray(model.scores[metric], dtype=float)
        if metric in model.intervals:
            interval = model.intervals[metric]
            axes.plot([interval.low, interval.high], [i, i], color=colour, linewidth=5, alpha=0.25)
        dots: Any = {"color": colour, "markersize": 5, "alpha": 0.75, "markeredgewidth": 0}
        axes.plot(values, np.full(len(values), i), "o", **dots)
        axes.plot(values.mean(), i, "|", color=colour, markersize=15, markeredgewidth=2.4)
        weight = "bold" if model.is_own else "normal"
        margin_note(axes, f"{values.mean():.3f}", i, fontsize=8.5, color=colour, fontweight=weight)
    axes.set_yticks(range(len(shown)), [model.name for model in shown])
    for tick, model in zip(axes.get_yticklabels(), shown, strict=True):
        tick.set_fontweight("bold" if model.is_own else "normal")
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel=metric_name(metric))
    axes.tick_params(axis="y", length=0)
    ends = [float(value) for model in shown for value in model.scores[metric]]
    ends += [end for model in shown if (one := model.intervals.get(metric)) for end in (one.low, one.high)]
    least, most = min(0.0, *ends), max(0.0, *ends)  # from 0 on: a cut axis makes a small lead look large
    axes.set_xlim(least - 0.02 * (most - least) * (least < 0), most + 0.04 * (most - least or 1))
    axes.grid(True, axis="x")
    return figure


@styled
def ablation_bars(rows: Sequence[AblationRow], metric: str) -> Figure | None:
    """The metric with all inputs as a line, and without each input as bars."""
    rows = [row for row in rows if row.metric == metric]
    if not rows:
        return None
    modalities = list(dict.fromkeys(row.modality for row in rows))
    hows = list(dict.fromkeys(row.how for row in rows))
    figure, axes = new_axes(0.95 + 0.62 * len(modalities))
    height = 0.8 / len(hows)
    colours = {"blank": ORANGE, "shuffle": SKY}
    for row in rows:
        y = modalities.index(row.modality) + (hows.index(row.how) - (len(hows) - 1) / 2) * height
        axes.barh(y, row.value, height=height * 0.88, color=colours.get(row.how, GREY))
        change = round(row.value - row.intact, 3) + 0.0  # never −0.000
        text = f"{row.value:.3f}  ({change:+.3f})".replace("-", "−")
        margin_note(axes, text, y)  # beside the axes: at the bar's end it would cross the line of all inputs
    axes.axvline(rows[0].intact, color=INK, linewidth=1.4, clip_on=False)
    top: Any = {"xycoords": ("data", "axes fraction"), "ha": "center", "fontsize": 8.5, "fontweight": "bold"}
    note(axes, f"all inputs {rows[0].intact:.3f}", (rows[0].intact, 1), (0, 3), **top)
    names = {"blank": "left blank", "shuffle": "from another row"}
    for how in hows:
        axes.barh(0, 0, color=colours.get(how, GREY), label=names.get(how, how))
    axes.set_yticks(range(len(modalities)), [f"without\n{name}" for name in modalities])
    axes.set(ylim=(len(modalities) - 0.5, -0.55), xlabel=metric_name(metric))
    values = [*(row.value for row in rows), rows[0].intact]
    lowest, highest = min(values), max(values)
    axes.set_xlim(
        min(0.0, lowest), 1.0 if 0.5 < highest <= 1 and not lower_is_better(metric) else 1.05 * highest or 1.0
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    figure.legend(loc="outside lower left", ncols=2)
    return figure


@styled
def field_accuracies(fields: Sequence[FieldScore]) -> Figure | None:
    """One line per field in the order of the table: the model's accuracy, and the two guesses as open marks."""
    if not fields:
        return None
    figure, axes = new_axes(0.85 + 0.27 * len(fields))
    places = range(len(fields))
    for i, field in enumerate(fields):
        best = max(field.most_frequent, field.previous_row)
        colour = BLUE if field.lead > 0 else PALE
        axes.plot([best, field.accuracy], [i, i], color=colour, linewidth=3, alpha=0.3)
    usual, before = "always the most frequent value", "the value of the row before"
    shown: Any = {"linestyle": "none", "markersize": 5, "fillstyle": "none"}
    axes.plot([f.most_frequent for f in fields], places, marker="s", color=GREY, label=usual, **shown)
    axes.plot([f.previous_row for f in fields], places, marker="d", color=ORANGE, label=before, **shown)
    axes.plot([f.accuracy for f in fields], places, "o", color=BLUE, markersize=6, label="TabBERT")
    for i, field in enumerate(fields):
        colour = BLUE if field.lead > 0 else GREY
        margin_note(axes, f"{field.accuracy:.3f}", i, fontsize=8.5, color=colour)
    axes.set_yticks(places, [field.field for field in fields])
    axes.set(xlim=(-0.02, 1.02), ylim=(len(fields) - 0.4, -0.6), xlabel="share of judged cells that is right")
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")
    figure.legend(loc="outside upper left", ncols=3)
    return figure
