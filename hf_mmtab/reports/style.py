"""How all plots look: colours that colour-blind readers can tell apart, thin axes, no boxes."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

P = ParamSpec("P")
R = TypeVar("R")

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), darkest first; black and yellow left out.
BLUE, ORANGE, GREEN, PINK, GOLD, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, PINK, GOLD, SKY)
INK, GREY, PALE = "#243038", "#7b8790", "#d9dee2"
WIDTH = 7.6  # inches; at 144 dpi about 1,100 pixels, sharp at the page's 740

MOST_POINTS, COLUMNS = 20_000, 4_000  # of a line: more points are drawn as the ends of what a column of pixels holds

_STYLE_FILE = Path(__file__).with_name("report.mplstyle")
STYLE = matplotlib.rc_params_from_file(_STYLE_FILE, use_default_template=False)


def styled(plot: Callable[P, R]) -> Callable[P, R]:
    """Run a plotting function under `STYLE`. No pyplot: nothing global changes, no display is needed."""

    @wraps(plot)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE):
            return plot(*args, **kwargs)

    return run


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes."""
    figure = new_figure(height, width)
    return figure, figure.add_subplot()


def draw_steps(axes: Axes, x: np.ndarray, y: np.ndarray, log: bool = False, **look: Any) -> None:
    """Draw steps from each place on; of many points those that a picture can show.

    Args:
        axes: of the picture.
        x: `(points,)`, rising or falling.
        y: `(points,)`.
        log: whether the axis of `x` is logarithmic.
        look: of the line.
    """
    if len(x) > MOST_POINTS:
        place = np.log(x) if log else x
        column = (np.abs(place - place[0]) * (COLUMNS / abs(place[-1] - place[0]))).astype(np.int32)
        first = np.flatnonzero(np.append(True, column[1:] != column[:-1]))
        last = np.append(first[1:], len(x)) - 1
        ends = [np.minimum.reduceat(y, first), np.maximum.reduceat(y, first)]
        y = np.stack([y[first], *ends, y[last]], axis=1).ravel()
        x = np.stack([x[first], x[first], x[last], x[last]], axis=1).ravel()
    axes.step(x, y, where="post", **look)


def unit_axes(axes: Axes, x: str, y: str) -> None:
    """Both axes from 0 to 1, square, labelled."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal", anchor="W")
    axes.grid(True)


def note(axes: Axes, text: str, at: tuple[Any, Any], offset: tuple[float, float], **options: Any) -> None:
    """Write a text `offset` points away from a place of the axes, with a white rim where it crosses a line."""
    rim = [patheffects.withStroke(linewidth=3, foreground="white")]
    options = {"fontsize": 8, "path_effects": rim, **options}
    axes.annotate(text, at, xytext=offset, textcoords="offset points", **options)


def margin_note(axes: Axes, text: str, y: float, **options: Any) -> None:
    """Write a text to the right of the axes, beside a value of the y axis."""
    options |= {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
    note(axes, text, (1.0, y), (8, 0), **options)


def plain_log_ticks(axis: Axis, only_decades: bool = False) -> None:
    """Write the ticks of a logarithmic axis as plain numbers; where it spans few decades, also at 2 and 5.

    matplotlib's own labels are formulas, which `STYLE` does not read.
    """
    low, high = axis.get_view_interval()
    few = not only_decades and high / max(low, 1e-300) < 300
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
