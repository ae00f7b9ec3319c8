"""How a table differs from the training rows, as a page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from ..evaluation.drift import FAR, GROUPS, MOVED, FieldDrift
from ..evaluation.generated_pairs import FieldPair
from .page import environment, picture_of
from .plots_classes import BLUES
from .style import new_figure, styled

DRAWN = 8  # pairs of fields


def drift_page(
    title: str,
    fields: Sequence[FieldDrift],
    summary: str,
    notes: Sequence[str],
    version: str,
    pairs: Sequence[FieldPair] = (),
    warnings: Sequence[str] = (),
) -> str:
    """Return the page.

    Args:
        title: of the page.
        fields: see `field_drift`; the one that moved most first.
        summary: one or two sentences on what was compared.
        notes: what a reader must know.
        version: of this package.
        pairs: of fields, see `field_pairs`; the first ones are drawn.
        warnings: what stands above all else.
    """
    pictures = []
    for pair in pairs[:DRAWN]:
        first, second = pair.fields
        real, made = pair.shared
        alt = (
            f"Shares of {first} with {second}: {real:.2f} nats shared among test rows, {made:.2f} among generated "
            f"rows, of which {pair.distance:.0%} lie in other combinations"
        )
        pictures.append(picture_of(f"{first} {second}", alt, pair_picture(pair)))
    return environment().get_template("drift.html.jinja").render(
        title=title,
        fields=fields,
        summary=summary,
        notes=notes,
        warnings=warnings,
        pairs=pairs,
        pictures=pictures,
        groups=GROUPS,
        moved=MOVED,
        far=FAR,
        version=version,
        style=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
    )  # fmt: skip


LONGEST = 16  # characters of a label
MOST_LABELS = 12  # on an axis


@styled
def pair_picture(pair: FieldPair) -> Figure:
    """Draw the shares of all combinations: left of real rows, right of generated ones, on one scale."""
    rows, columns = pair.groups
    figure = new_figure(1.9 + 0.13 * max(len(rows), 8))
    top = max(pair.real.max(), pair.generated.max())
    axes = figure.subplots(1, 2, sharey=True)
    titles = ("test rows", "generated")
    for one, shares, shared, title in zip(axes, (pair.real, pair.generated), pair.shared, titles, strict=True):
        picture = one.imshow(shares, cmap=BLUES, norm=PowerNorm(0.5, 0, top), aspect="auto", interpolation="nearest")
        one.set_title(f"{title}: {shared:.2f} nats shared", fontsize=9)
        one.set_xlabel(pair.fields[1])
        one.set_xticks(*_labels(columns), rotation=90, fontsize=7)
        one.tick_params(length=0)
        one.spines[:].set_visible(False)
    axes[0].set_yticks(*_labels(rows), fontsize=7)
    axes[0].set_ylabel(pair.fields[0])
    bar = figure.colorbar(picture, ax=axes, aspect=20, pad=0.02)
    bar.set_label("share of rows")
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def _labels(names: tuple[str, ...]) -> tuple[list[int], list[str]]:
    """Return the places of an axis that are named, evenly spread, and their names."""
    places = np.unique(np.linspace(0, len(names) - 1, min(MOST_LABELS, len(names))).astype(int)).tolist()
    return places, [names[i] if len(names[i]) <= LONGEST else names[i][: LONGEST - 1] + "…" for i in places]
