"""What a number of alerts a day finds: the view of who has to look at them."""

import numpy as np
from matplotlib.figure import Figure

from .style import BLUE, GREEN, INK, ORANGE, new_figure, plain_log_ticks, styled


def alert_curves(
    times: np.ndarray, labels: np.ndarray, scores: np.ndarray, amounts: np.ndarray | None = None
) -> dict[str, np.ndarray] | None:
    """Return what the highest scores find, from the highest one to all rows.

    Args:
        times: `datetime64` of the rows, shape `(rows,)`; rows without a time are left out.
        labels: 0 and 1, shape `(rows,)`.
        scores: of class 1, shape `(rows,)`.
        amounts: of money, shape `(rows,)`, NaN where missing; refunds count as nothing.

    Returns:
        `alerts` a day (of the days that have rows), `precision`, `recall`, `scores` and, with amounts, `money`, the
        share of the positives' money; one value for each different score. None without a positive.
    """
    known = ~np.isnat(times)
    labels, scores = labels[known], scores[known]
    if not labels.sum():
        return None
    days = len(np.unique(times[known].astype("datetime64[D]")))
    order = np.argsort(-scores, kind="stable")
    last = np.append(scores[order][1:] != scores[order][:-1], True)  # equal scores are alerts together
    hits, ranks = np.cumsum(labels[order]), np.arange(1, len(order) + 1)
    curves = {"alerts": ranks / days, "precision": hits / ranks, "recall": hits / hits[-1]}
    if amounts is not None:
        money = np.cumsum(np.nan_to_num(np.maximum(amounts[known], 0.0))[order] * labels[order])
        if money[-1] > 0:
            curves["money"] = money / money[-1]
    return {name: curve[last] for name, curve in (curves | {"scores": scores[order]}).items()}


@styled
def alerts_a_day(
    times: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    positive: str,
    amounts: np.ndarray | None = None,
) -> Figure | None:
    """Precision and recall (of rows, and of money where there are amounts) over alerts a day."""
    curves = alert_curves(times, labels, scores, amounts)
    if curves is None:
        return None
    figure = new_figure(3.2)
    axes = figure.add_subplot()
    looks = (
        ("recall", BLUE, f"share of {positive} found"),
        ("money", GREEN, "share of their money"),
        ("precision", ORANGE, "share of alerts that are right"),
    )
    for name, colour, label in looks:
        if name in curves:
            axes.step(curves["alerts"], curves[name], where="post", color=colour, label=label)
    if (chosen := curves["scores"] >= threshold).any():
        at = float(curves["alerts"][chosen][-1])
        axes.axvline(at, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"threshold: {at:.2g} a day")
    axes.set(xscale="log", xlabel="alerts a day", ylabel="share", ylim=(-0.02, 1.02))
    plain_log_ticks(axes.xaxis)
    axes.grid(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return figure
