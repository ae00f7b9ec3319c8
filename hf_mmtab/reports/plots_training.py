"""Curves of loss, metric and learning rate, and the audit's table of what each part did."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..metrics.names import metric_name
from .style import BLUE, GREEN, GREY, INK, ORANGE, new_figure, note, styled

Records = Sequence[dict[str, Any]]


def series(log_history: Records, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and finite values of one key of Trainer's log."""
    logged = [e for e in log_history if key in e and "epoch" in e]
    points = [(e["epoch"], e[key]) for e in logged if math.isfinite(e[key])]
    epochs, values = zip(*points, strict=True) if points else ((), ())
    return np.array(epochs, dtype=float), np.array(values, dtype=float)


def _mark_of(values: np.ndarray) -> str:
    """The marker without which a curve of one point cannot be seen."""
    return "o" if len(values) == 1 else ""


def thaw_epochs(records: Records) -> dict[str, float]:
    """For each part that was frozen at first: the epoch at which it was first recorded as training."""
    frozen: set[str] = set()
    thawed: dict[str, float] = {}
    for record in records:
        part = record["part"]
        if record["frozen"]:
            frozen.add(part)
        elif part in frozen and part not in thawed:
            # the epoch at which the recorded step began
            thawed[part] = record["epoch"] * (record["step"] - 1) / record["step"]
    return thawed


def boundaries(records: Records) -> list[int]:
    """Optimizer steps done when some part froze or thawed, as far as the records show."""
    edges: set[int] = set()
    before: dict[str, bool] = {}
    for record in records:
        if before.get(record["part"], record["frozen"]) != record["frozen"]:
            edges.add(record["step"] - 1)
        before[record["part"]] = record["frozen"]
    return sorted(edges)


def _mark_thaws(panels: Sequence[Axes], thaws: Mapping[str, float]) -> None:
    """A dashed line through all panels at each thaw, named above the first; layers of one part are named once."""
    names: dict[float, list[str]] = {}
    layered: dict[str, float] = {}  # a part that thaws layer by layer → when its first layer does
    for part, epoch in thaws.items():
        whole, _, layer = part.rpartition(".")
        if whole and layer.isdigit():
            layered[whole] = min(epoch, layered.get(whole, epoch))
        else:
            names.setdefault(round(epoch, 3), []).append(part)
    for whole, epoch in layered.items():
        names.setdefault(round(epoch, 3), []).append(f"{whole} (top layer)")
    for epoch in {round(epoch, 3) for epoch in thaws.values()}:
        for axes in panels:
            axes.axvline(epoch, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for epoch, parts in names.items():
        text = f"{' and '.join(parts)} thaws" if len(parts) == 1 else f"{' and '.join(parts)} thaw"
        shown: Any = {"xycoords": ("data", "axes fraction"), "color": INK, "ha": "center"}
        note(panels[0], text, (epoch, 1.0), (0, 3), annotation_clip=False, **shown)


@styled
def learning_curves(
    log_history: Records, metric: str, thaws: Mapping[str, float], kept_step: int | None = None, of: str = ""
) -> Figure | None:
    """Loss, the main metric on validation and the learning rate over epochs; None if nothing was logged.

    The evaluation of the checkpoint that was kept is circled, the last one where `kept_step` is None. `of`: which part
    of the model is shown; "": the model.
    """
    train, rate = series(log_history, "loss"), series(log_history, "learning_rate")
    validation = series(log_history, "eval_loss")
    score = series(log_history, f"eval_{metric}")
    held = {"loss": len(train[0]) + len(validation[0]), "score": len(score[0]), "rate": len(rate[0])}
    panels = [name for name, points in held.items() if points]
    if not panels:
        return None
    heights = [0.9 if panel == "rate" else 2.0 for panel in panels]
    figure = new_figure(sum(heights) + 0.6)
    grid = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for panel, axes in zip(panels, grid, strict=True):
        axes.grid(True, axis="y")
        if panel == "loss":
            if len(train[0]):
                axes.plot(*train, color=BLUE, linewidth=1.2, marker=_mark_of(train[0]), markersize=4, label="training")
            if len(validation[0]):
                axes.plot(*validation, color=ORANGE, marker="o", markersize=4, label="validation")
            axes.set_ylabel("loss")
            # Leaves room above the highest point.
            axes.set_ylim(0, 1.08 * max(*train[1], *validation[1], 1e-9))
            axes.legend(loc="best", ncols=2)
        elif panel == "score":
            axes.plot(*score, color=ORANGE, marker="o", markersize=4)
            kept = _place_of(kept_step, log_history, score[0])
            axes.plot(
                score[0][kept], score[1][kept], "o", markersize=9, markerfacecolor="none", color=INK, clip_on=False
            )
            beside = {0: "left", len(score[0]) - 1: "right"}.get(kept, "center")  # inside the axes
            note(axes, f"kept, {score[1][kept]:.3f}", (score[0][kept], score[1][kept]), (0, -15), ha=beside)
            axes.margins(y=0.25)
            axes.set_ylabel(f"{metric_name(metric)}{of}\non validation")
        else:
            axes.plot(*rate, color=GREEN, linewidth=1.2, marker=_mark_of(rate[0]), markersize=4)
            axes.set_ylabel("learning\nrate")
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="y", scilimits=(0, 0))
    grid[-1].set_xlabel("epoch")
    grid[-1].set_xlim(left=0)
    _mark_thaws(list(grid), thaws)
    return figure


def _place_of(step: int | None, log_history: Records, epochs: np.ndarray) -> int:
    """Return which of the evaluations at these epochs was made at a step; the last one for None."""
    logged = [entry["epoch"] for entry in log_history if entry.get("step") == step and "epoch" in entry]
    epoch = logged[0] if logged else None
    return len(epochs) - 1 if step is None or epoch is None else int(np.abs(epochs - epoch).argmin())


def audit_rows(records: Records) -> list[dict[str, Any]]:
    """The last record of each part, with the epoch of its thaw and whether its batch-norm statistics moved."""
    thawed = thaw_epochs(records)
    last, first = ({one["part"]: one for one in ordered} for ordered in (records, reversed(records)))
    return [
        {
            "part": part,
            "trains_from": thawed.get(part, None if first[part]["frozen"] else 0.0),
            "moved": record["change_since_start"],
            "statistics": record.get("statistics_since_start"),
            "gradient": record.get("gradient_norm"),
            "reason": record.get("reason"),
        }
        for part, record in last.items()
    ]
