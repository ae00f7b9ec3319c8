"""The update audit as text tables and as a plot."""

import math
import os
import re
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any

from ..moments import join_windows


def format_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as aligned text; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths).rstrip(), *lines[1:]])


def short_count(number: int) -> str:
    """Return a number of weights as 1.2k, 3.4M or 5.6G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return str(number)


def short_change(value: float) -> str:
    """Return a relative change as a percentage of two digits that matter; below 0.001% as such."""
    if value == 0 or not math.isfinite(value):
        return "0%" if value == 0 else str(value)
    if value < 1e-5:
        return "<0.001%"
    return f"{value:.0%}" if value >= 0.1 else f"{value:.{1 - math.floor(math.log10(value)) - 2}%}"


def short_share(share: float) -> str:
    """Return a share in [0, 1] as a percentage; only 0 and 1 themselves read as 0% and 100%."""
    return f"{share:.0%}" if share in (0.0, 1.0) else f"{min(max(share, 0.001), 0.999):.1%}"


# Title of a column → label of a curve → key of a record; what an empty panel of it says.
_COLUMNS: tuple[tuple[str, dict[str, str], str], ...] = (
    ("Relative change", {"since the start": "change_since_start", "in one step": "change"}, "does not move"),
    ("Gradient norm", {"": "gradient_norm"}, "no gradient"),
    ("Learning rate", {"": "learning_rate"}, "not applied"),
)


def plot_audit(
    records: list[dict[str, Any]], path: str | os.PathLike | BytesIO, boundaries: Sequence[int] = ()
) -> None:
    """Draw part × step: frozen bands, relative change (log scale), gradient norm and learning rate.

    Args:
        records: of an audit file, see `read_records`; values that are NaN or infinite are gaps.
        path: the PNG to write, or where its bytes go.
        boundaries: steps at which something freezes or thaws.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = list(dict.fromkeys(record["part"] for record in records))
    figure = Figure(figsize=(13, 1.3 + 1.25 * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(parts), 3, sharex=True, sharey="col", squeeze=False)
    last = max(record["step"] for record in records)
    for row, part in enumerate(parts):
        own = [record for record in records if record["part"] == part]
        for panel, (_, curves, empty) in zip(axes[row], _COLUMNS, strict=True):
            for start, end in frozen_bands(own, boundaries, last):
                panel.axvspan(start, end, color="#b9d3ea", lw=0)
            _draw_panel(panel, own, curves, empty)
            panel.set_xlim(0, last)
        axes[row][0].set_ylabel(_in_lines(part), fontsize=9)
    for column in range(len(_COLUMNS)):
        _label_column(axes[:, column], column, records)
    legends = [zip(*panel.get_legend_handles_labels(), strict=True) for panel in axes[:, 0]]
    handles = {label: line for pairs in legends for line, label in pairs}
    figure.legend(list(handles.values()), list(handles), fontsize=8, loc="upper left", ncols=2, frameon=False)
    figure.align_ylabels(axes[:, 0])
    figure.suptitle("Update audit: what each part did (blue band: frozen)", fontsize=11)
    figure.savefig(path, dpi=110, format="png")


def _in_lines(part: str, most: int = 17) -> str:
    """Return the name of a part in lines that fit beside a panel, broken behind dots and underscores."""
    lines = [""]
    for piece in re.findall(r"[^._]*[._]?", part):
        lines[-1:] = [lines[-1] + piece] if len(lines[-1] + piece) <= most else [lines[-1], piece]
    return "\n".join(line for line in lines if line)


def _draw_panel(panel: Any, records: list[dict[str, Any]], curves: dict[str, str], empty: str) -> None:
    """Draw the curves of one part, or `empty` where none has a point."""
    for (label, key), color in zip(curves.items(), ("#1f4e79", "#d97b29"), strict=False):
        points = [(record["step"], _point(record, key)) for record in records]
        if any(value is not None for _, value in points):
            steps, values = zip(*points, strict=True)
            held = [float("nan") if value is None else value for value in values]
            panel.plot(steps, held, color=color, lw=1.3, marker=".", ms=3, label=label)
    if not panel.lines:
        broken = any(not math.isfinite(record[key] or 0) for record in records for key in curves.values())
        text, place = "NaN or infinite" if broken else empty, panel.transAxes
        panel.text(0.5, 0.5, text, transform=place, ha="center", va="center", color="#444444")
    panel.grid(alpha=0.25)
    panel.tick_params(labelsize=8)


def _point(record: dict[str, Any], key: str) -> float | None:
    """Return a value to draw; learning rates of 0 are shown where the part trains, other zeros are not."""
    value, is_rate = record[key], key == "learning_rate"
    shown = not record["frozen"] if is_rate else bool(value)
    return value if value is not None and shown and math.isfinite(value) else None


def _label_column(panels: Any, column: int, records: list[dict[str, Any]]) -> None:
    """Write title and axis label of one column, and choose its scale, which its panels share."""
    from matplotlib.ticker import FuncFormatter

    title, curves, _ = _COLUMNS[column]
    panels[0].set_title(title, fontsize=10)
    panels[-1].set_xlabel("optimizer step", fontsize=9)
    if column < 2 and any(_point(record, key) for record in records for key in curves.values()):
        panels[0].set_yscale("log")
        for panel in panels:
            panel.minorticks_off()
    else:
        panels[0].set_ylim(bottom=0)
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1e}" if value else "0"))


def frozen_bands(records: list[dict[str, Any]], boundaries: Sequence[int], last: int) -> list[tuple[float, float]]:
    """Return the stretches of steps in which a part was frozen as a whole.

    A record says what held in its step; between two records the state changes at a boundary of the schedule.
    """
    edges = sorted({0, last, *(edge for edge in boundaries if 0 < edge < last)})
    bands = []
    for start, end in pairwise(edges):
        inside = [record["frozen"] for record in records if start < record["step"] <= end]
        if inside and all(inside):
            bands.append((start, end))
    return list(join_windows(bands))
