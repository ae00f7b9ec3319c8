"""`recipe_rows`: more epochs for fewer rows than a recipe is made for, and fewer for more."""

import math
import re
from typing import Any

from ...training import MMTabTrainingArguments

NEAR = 2.0  # times more or fewer rows leave the epochs as they are
MOST = 3.0  # times the recipe's epochs
LEAST = 2
_MOMENTS = ("freeze", "gradual_unfreezing", "thaw_warmup")
_EPOCHS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*epochs?", re.IGNORECASE)


def fit_epochs(training: MMTabTrainingArguments, recipe_rows: int | None, rows: int) -> str | None:
    """Choose the epochs so that optimizer steps grow with the square root of the rows; return a note about it.

    Parts thaw after the same share of training as in the recipe.

    Args:
        training: its epochs and moments in epochs are changed.
        recipe_rows: training rows that they are made for; None: any.
        rows: of training.
    """
    before = training.num_train_epochs
    if recipe_rows is None or training.max_steps > 0 or 1 / NEAR <= rows / recipe_rows <= NEAR:
        return None
    epochs = min(MOST * before, max(LEAST, round(before * math.sqrt(recipe_rows / rows))))
    if epochs == before or before < LEAST:
        return None
    for name in _MOMENTS:
        if given := training.mapping(name):
            setattr(training, name, {part: _as_share(moment, before) for part, moment in given.items()})
    training.num_train_epochs = epochs
    batch = training.train_batch_size * training.gradient_accumulation_steps * training.world_size
    steps = [f"{math.ceil(math.ceil(rows / batch) * one):,}" for one in (epochs, before)]
    far = "less than half" if rows < recipe_rows else "more than twice"
    return (
        f"num_train_epochs: {epochs:g} in place of {before:g}, {steps[0]} steps in place of {steps[1]}: {rows:,} "
        f"training rows are {far} the {recipe_rows:,} that the recipe is made for. "
        "Parts thaw after the same share of training. To decide otherwise: num_train_epochs on the "
        "command line, or recipe_rows."
    )


def _as_share(moment: Any, epochs: float) -> Any:
    """Return a moment, or several, with epochs as shares of all epochs; everything else as it is."""
    if isinstance(moment, list | tuple):
        return [_as_share(one, epochs) for one in moment]
    if not isinstance(moment, str):
        return moment
    return _EPOCHS.sub(lambda found: f"{min(100.0, 100 * float(found[1]) / epochs):.4g}%", moment)
