"""How a table differs from the training rows, as a page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

from ..evaluation.drift import FAR, GROUPS, MOVED, FieldDrift
from .page import environment


def drift_page(title: str, fields: Sequence[FieldDrift], summary: str, notes: Sequence[str], version: str) -> str:
    """Return the page.

    Args:
        title: of the page.
        fields: see `field_drift`; the one that moved most first.
        summary: one or two sentences on what was compared.
        notes: what a reader must know.
        version: of this package.
    """
    return environment().get_template("drift.html.jinja").render(
        title=title,
        fields=fields,
        summary=summary,
        notes=notes,
        groups=GROUPS,
        moved=MOVED,
        far=FAR,
        version=version,
        style=(Path(__file__).parent / "report.css").read_text(encoding="utf-8"),
    )  # fmt: skip
