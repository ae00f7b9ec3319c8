"""What an explanation says: a score, the score of an empty input, and what each piece of the input adds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

VALUE_OF, ODDS_OF = "value of ", "log odds of "  # how the score of a number, and of a label, is named
LEAST_SHOWN = 5e-4  # of a change of the score
COMPLETE = 0.01  # reasons may miss the change of the score by this share of it


@dataclass(frozen=True)
class Reason:
    """One piece of the input and what it adds to the score.

    Args:
        name: what it is: "word", "picture", or the name of a field or number.
        value: as text.
        attribution: what it adds, in the units of the score; below 0 it speaks against the label.
        row: of tables: 0 for the judged row, -1 for the row before it. None: of no row.
    """

    name: str
    value: str
    attribution: float
    row: int | None = None

    def __str__(self) -> str:
        if self.row is None:
            return f'{self.name} "{self.value}"' if self.name == "word" else f"{self.name} {self.value}".rstrip()
        named = f"{self.name} = {self.value}" if self.value else self.name
        return f"{named}, {row_place(self.row)}" if self.row else named


@dataclass(frozen=True)
class Explanation:
    """Why a model gives one input this score.

    Args:
        explains: what the score is, such as "log odds of fraud".
        score: of the input.
        baseline: score of the empty input that everything is compared with.
        reasons: one for each piece of the input, in its order. Their attributions sum to `score - baseline`.
        error: by how much they miss it, as a share of the difference.
        without_row: of tables: what the score changes by when an earlier row is taken away, by its place (-1: the row
            before the judged one). Time gaps and statistics of later rows stay as they were.
        label: name of the label, or target, whose score it is.
    """

    explains: str
    score: float
    baseline: float
    reasons: tuple[Reason, ...]
    error: float
    without_row: Mapping[int, float] = field(default_factory=dict)
    label: str = ""

    def top(self, count: int = 5) -> list[Reason]:
        """Return the reasons that raise the score most (of a number: move it most), the strongest first."""
        either_way = self.explains.startswith(VALUE_OF)
        told = [reason for reason in self.reasons if reason.attribution > 0 or (either_way and reason.attribution)]
        return sorted(told, key=lambda reason: -abs(reason.attribution))[:count]

    def of_rows(self) -> dict[int, float]:
        """Return the sum of the attributions of each row of a table, by its place."""
        rows: dict[int, float] = {}
        for reason in self.reasons:
            if reason.row is not None:
                rows[reason.row] = rows.get(reason.row, 0.0) + reason.attribution
        return rows

    def __str__(self) -> str:
        """List the ten strongest reasons for and against."""
        strongest = sorted(self.reasons, key=lambda reason: -abs(reason.attribution))[:10]
        lines = [f"{reason.attribution:+.3f}  {reason}" for reason in strongest]
        if self.without_row:
            row, change = max(self.without_row.items(), key=lambda one: abs(one[1]))
            rises = "rises" if change > 0 else "falls"
            if abs(change) >= LEAST_SHOWN:
                lines.append(f"Without the row {row_place(row)} the score {rises} by {abs(change):.3f}.")
        if self.explains.startswith(ODDS_OF) and min(self.score, self.baseline) > 0:
            lines.append("An empty input gets this label too: reasons tell what moves the score from there.")
        if self.error > COMPLETE:
            lines.append(f"The reasons miss the change of the score by {self.error:.0%}: they are rough.")
        head = f"{self.explains}: {self.score:.3f} ({self.baseline:.3f} for an empty input)"
        return "\n".join([head, *lines])


def row_place(row: int) -> str:
    """Return where a row lies from the judged one, in words."""
    return f"{abs(row)} row{'s' if abs(row) > 1 else ''} {'earlier' if row < 0 else 'later'}"
