"""The audit for people: text tables and a plot of what each part did."""

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def format_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as aligned text; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths).rstrip(), *lines[1:]])


def count(number: int) -> str:
    """Return a number of weights in short: 1.2k, 3.4M, 5.6G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return str(number)


def quantity(value: float) -> str:
    """Return a relative change in short."""
    return f"{value:.1%}" if value >= 0.01 else f"{value:.1e}"


def percent(share: float) -> str:
    """Return a share in short; what is neither nothing nor everything does not read as such."""
    return f"{share:.0%}" if share in (0.0, 1.0) else f"{min(max(share, 0.001), 0.999):.1%}"


def plot_audit(
    records: list[dict[str, Any]], path: str | os.PathLike, boundaries: Sequence[int] = ()
) -> None:
    """Draw part × step: frozen bands, relative change (log scale), gradient norm and learning rate.

    Args:
        records: of an audit file, see `read_records`.
        path: the PNG to write.
        boundaries: steps at which something freezes or thaws.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    parts = list(dict.fromkeys(record["part"] for record in records))
    last = max(record["step"] for record in records)
    columns = (
        ("Relative change", {"since the start": "change_since_start", "in one step": "change"}),
        ("Gradient norm", {"": "gradient_norm"}),
        ("Learning rate", {"": "learning_rate"}),
    )
    figure = Figure(figsize=(13, 1.3 + 1.25 * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(parts), 3, sharex=True, sharey="col", squeeze=False)
    for row, part in enumerate(parts):
        own = [record for record in records if record["part"] == part]
        for column, (_, curves) in enumerate(columns):
            panel = axes[row][column]
            for start, end in frozen_bands(own, boundaries, last):
                panel.axvspan(start, end, color="#b9d3ea", lw=0)
            drawn = [
                _draw(panel, own, key, label, color)
                for (label, key), color in zip(curves.items(), ("#1f4e79", "#d97b29"), strict=False)
            ]
            if not any(drawn):
                text = ("does not move", "no gradient", "not applied")[column]
                if any(not _is_finite(record[key]) for record in own for key in curves.values()):
                    text = "NaN or infinite"
                panel.text(
                    0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color="#444444"
                )
            panel.set_xlim(0, last)
            panel.grid(alpha=0.25)
            panel.tick_params(labelsize=8)
        axes[row][0].set_ylabel(part.replace("_", "_\n") if len(part) > 14 else part, fontsize=9)
    for column, (title, _) in enumerate(columns):
        top, bottom = axes[0][column], axes[-1][column]
        top.set_title(title, fontsize=10)
        bottom.set_xlabel("optimizer step", fontsize=9)
        if column < 2 and any(
            record[key] and _is_finite(record[key])
            for record in records
            for key in columns[column][1].values()
        ):
            top.set_yscale("log")  # shared by the column
            for panel in axes[:, column]:
                panel.minorticks_off()
        else:
            top.set_ylim(bottom=0)
            top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1e}" if value else "0"))
    handles = {
        label: line
        for panel in axes[:, 0]
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), fontsize=8, loc="upper left", ncols=2, frameon=False)
    figure.align_ylabels(axes[:, 0])
    figure.suptitle("Update audit: what each part did (blue band: frozen)", fontsize=11)
    figure.savefig(path, dpi=110)


def _is_finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)


def _draw(panel: Any, records: list[dict[str, Any]], key: str, label: str, color: str) -> bool:
    """Draw one curve of one part without what is 0, not finite or does not apply; return whether any is left."""
    if key == "learning_rate":  # 0 is worth seeing here, except while frozen
        points = [(record["step"], None if record["frozen"] else record[key]) for record in records]
    else:
        points = [(record["step"], record[key] or None) for record in records]
    points = [(step, value if _is_finite(value) else None) for step, value in points]
    if all(value is None for _, value in points):
        return False
    steps, values = zip(*points, strict=True)
    panel.plot(
        steps,
        [float("nan") if v is None else v for v in values],
        color=color,
        lw=1.3,
        marker=".",
        ms=3,
        label=label,
    )
    return True


def frozen_bands(
    records: list[dict[str, Any]], boundaries: Sequence[int], last: int
) -> list[tuple[float, float]]:
    """Return the stretches of steps in which a part was frozen as a whole.

    A record says what held in its step; between two records the state changes at a boundary of the schedule.
    """
    if not records:
        return []
    edges = sorted({0, last, *(edge for edge in boundaries if 0 < edge < last)})
    bands: list[tuple[float, float]] = []
    for start, end in pairwise(edges):
        inside = [record["frozen"] for record in records if start < record["step"] <= end]
        if inside and all(inside):
            if bands and bands[-1][1] == start:
                bands[-1] = (bands[-1][0], end)
            else:
                bands.append((start, end))
    return bands
