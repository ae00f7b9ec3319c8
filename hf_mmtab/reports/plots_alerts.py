"""What a number of alerts a day finds, and after how many rows episodes of positives are found."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..evaluation.episodes import GAP, Episodes
from .style import BLUE, GREEN, INK, ORANGE, draw_steps, new_axes, plain_log_ticks, styled


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


def alert_sentence(curves: dict[str, np.ndarray], threshold: float, positive: str) -> str:
    """Return what the alerts at the threshold are and find, in words; empty without one.

    Args:
        curves: see `alert_curves`.
        threshold: from which score on a row is an alert.
        positive: name of class 1.
    """
    if not (curves["scores"] >= threshold).any():
        return ""
    at = {name: float(curve[curves["scores"] >= threshold][-1]) for name, curve in curves.items()}
    money = f" and {at['money']:.0%} of their money" if "money" in at else ""
    return (
        f"The threshold makes {at['alerts']:.2g} alert{'' if at['alerts'] == 1 else 's'} a day, {at['precision']:.0%} "
        f"right; together they find {at['recall']:.0%} of the rows of {positive}{money}."
    )


@styled
def alerts_a_day(curves: dict[str, np.ndarray], threshold: float, positive: str) -> Figure:
    """Precision and recall (of rows, and of money where there are amounts) over alerts a day."""
    figure, axes = new_axes(3.2)
    looks = (
        ("recall", BLUE, f"share of {positive} found"),
        ("money", GREEN, "share of their money"),
        ("precision", ORANGE, "share of alerts that are right"),
    )
    for name, colour, label in looks:
        if name in curves:
            draw_steps(axes, curves["alerts"], curves[name], log=True, color=colour, label=label)
    if (chosen := curves["scores"] >= threshold).any():
        at = float(curves["alerts"][chosen][-1])
        axes.axvline(at, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"threshold: {at:.2g} a day")
    axes.set(xscale="log", xlabel="alerts a day", ylabel="share", ylim=(-0.02, 1.02))
    plain_log_ticks(axes.xaxis)
    axes.grid(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return figure


MOST_ROWS = 20  # of an episode, in the picture


@styled
def episodes_found(found: Episodes, positive: str) -> Figure | None:
    """The share of episodes that have a hit, over the positives since each began."""
    longest = int(min(found.sizes.max(), MOST_ROWS))
    if longest < 2:
        return None  # each episode is one row: the recall says all
    rows = np.arange(1, longest + 1)
    figure, axes = new_axes(2.4)
    shares = [found.found_by(int(number)) for number in rows]
    axes.step(rows, shares, where="post", color=BLUE, marker="o", markersize=3, label="found so far")
    total = float(found.found.mean())
    axes.axhline(total, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"found at all: {total:.0%}")
    axes.set(xlabel=f"rows of {positive} since the episode began", ylabel="share of episodes", ylim=(-0.02, 1.02))
    axes.set_xlim(0.8, longest + 0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return figure


def episode_sentences(found: Episodes, positive: str) -> list[str]:
    """Return what an analyst asks: how many episodes are found, how soon, and what goes by before."""
    number, hits = len(found.hit), int(found.found.sum())
    days = int(GAP / np.timedelta64(1, "D"))
    sentences = [
        f"Rows of {positive} of one history, no more than {days} days apart, are one episode: "
        f"{int(found.sizes.sum()):,} such rows make {number:,} {'episode' if number == 1 else 'episodes'} in "
        f"{found.histories:,} {'history' if found.histories == 1 else 'histories'}.",
        f"At the threshold {hits:,} of {number:,} episodes are found ({hits / number:.0%}).",
    ]
    if hits:
        at = found.hit[found.found]
        delay = np.median(found.delays[found.found].astype("timedelta64[us]").astype(np.int64)) / 1e6
        row = int(np.median(at)) + 1
        later = f", half of them by row {row}, within {_span(delay)} of the first" if row > 1 else ""
        sentences.append(f"Of those, {(at == 0).mean():.0%} at their first row{later}.")
    if found.lost is not None:
        sentences.append(f"{found.lost:.0%} of the money of {positive} goes by before the first hit, or without one.")
    return sentences


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
