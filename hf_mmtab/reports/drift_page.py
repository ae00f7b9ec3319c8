"""How a table differs from the training rows, as a page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

from ..evaluation.drift import FAR, GROUPS, MOVED, FieldDrift
from ..evaluation.generated_pairs import FieldPair
from .page import environment, picture_of
from .plots_pairs import pair_picture

DRAWN = 8  # pairs of fields


def drift_page(
    title: str,
    fields: Sequence[FieldDrift],
    summary: str,
    notes: Sequence[str],
    version: str,
    pairs: Sequence[FieldPair] = (),
) -> str:
    """Return the page.

    Args:
        title: of the page.
        fields: see `field_drift`; the one that moved most first.
        summary: one or two sentences on what was compared.
        notes: what a reader must know.
        version: of this package.
        pairs: of fields, see `field_pairs`; the first ones are drawn.
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
        pairs=pairs,
        pictures=pictures,
        groups=GROUPS,
        moved=MOVED,
        far=FAR,
        version=version,
        style=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
    )  # fmt: skip
