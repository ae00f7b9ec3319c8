"""Moments of a training run, as a recipe writes them: epochs, steps, fractions, and stretches between two of them."""

import math
import re
from dataclasses import dataclass
from typing import Any

_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(epochs?|steps?|%)?", re.IGNORECASE)
_WINDOW = re.compile(r"(?:from\s+)?(?P<start>.+?)\s+to\s+(?P<end>.+)", re.IGNORECASE)


@dataclass(frozen=True)
class Moment:
    """A point of the training run, in epochs, optimizer steps or a fraction of all steps; `forever` is after
    its end.
    """

    amount: float
    unit: str  # "epochs", "steps", "fraction" or "forever"

    @classmethod
    def parse(cls, value: Any) -> "Moment":
        """Read `"3 epochs"`, `"500 steps"`, `0.5`, `"50%"`, `"forever"` (also `true`) or 0 (also `false`).

        Raises:
            ValueError: if the text is none of these, or a number from 1 on has no unit.
        """
        if isinstance(value, Moment):
            return value
        if value is True or (isinstance(value, str) and value.strip().lower() == "forever"):
            return cls(math.inf, "forever")
        match = _AMOUNT.fullmatch(str(0 if value is False else value).strip())
        if match:
            amount, unit = float(match[1]), (match[2] or "").lower()
            if unit.startswith(("epoch", "step")):
                return cls(amount, "epochs" if unit.startswith("epoch") else "steps")
            if unit == "%" and amount <= 100:
                return cls(amount / 100, "fraction")
            if not unit and amount < 1:
                return cls(amount, "fraction")
        raise ValueError(
            f"Expected a moment such as '3 epochs', '500 steps', 0.5, '50%' or 'forever', found {value!r}. "
            "A number from 1 on needs its unit."
        )

    def to_step(self, steps_per_epoch: int, total_steps: int) -> float:
        """Return the number of optimizer steps done at this moment (`inf` for `forever`)."""
        scale = {"epochs": steps_per_epoch, "steps": 1, "fraction": total_steps, "forever": 1}[self.unit]
        steps = self.amount * scale
        return steps if math.isinf(steps) else math.ceil(steps - 1e-9)

    def __str__(self) -> str:
        if self.unit == "forever":
            return "forever"
        if self.unit == "fraction":
            return f"{self.amount * 100:g}%"
        return f"{self.amount:g} {self.unit[:-1] if self.amount == 1 else self.unit}"


START, FOREVER = Moment(0.0, "steps"), Moment(math.inf, "forever")


def parse_windows(value: Any) -> tuple[tuple[Moment, Moment], ...]:
    """Read when a part is frozen.

    `"3 epochs"` means from the start until then, `"from 4 epochs"` from then to the end,
    `"2 epochs to 4 epochs"` in between; a list holds several of these.
    """
    if isinstance(value, list | tuple):
        return tuple(window for item in value for window in parse_windows(item))
    text = value.strip() if isinstance(value, str) else ""
    if match := _WINDOW.fullmatch(text):
        return ((Moment.parse(match["start"]), Moment.parse(match["end"])),)
    if text.lower().startswith("from "):
        return ((Moment.parse(text[5:]), FOREVER),)
    return ((START, Moment.parse(value)),)
