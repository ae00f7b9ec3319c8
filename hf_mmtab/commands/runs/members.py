"""More LSTMs beside a trained one, from other seeds on the same encoder, whose mean scores."""

from typing import Any

import numpy as np
from transformers.utils import logging

from .trial import trained_trial

logger = logging.get_logger(__name__)

FEW_POSITIVES = 1000  # labelled training rows, below which what one LSTM of a fusion learns is in part chance
MEMBERS = 3
WITH_MEMBERS = ("lstm", "fusion")
OF_HEAD = ("lstm", "classifier", "numbers")  # parts outside of the encoder
WHOLE_TRAINING = ("eval_strategy", "save_strategy", "load_best_model_at_end", "early_stopping_patience")


def check_members(run: Any) -> None:
    """Raise a ValueError if a recipe asks for several LSTMs on an encoder that each of them would change."""
    asked = run.recipe.model.lstm_members
    if run.recipe.model.architecture in WITH_MEMBERS and asked is not None and asked > 1 and not _is_frozen(run):
        raise ValueError(
            f"Expected an encoder that is frozen for the whole run beside lstm_members: {asked}, which share it, found "
            "one that trains. Leave out `freeze`, `gradual_unfreezing` and `lora`, or lstm_members."
        )


def add_members(run: Any, trainer: Any) -> None:
    """Train as many more LSTMs as `lstm_members` says, each from its own seed, and let the mean of all score.

    Of another architecture there is none.

    Args:
        run: a `HeadRun` whose LSTM is trained, with the prior corrected.
        trainer: with the model, which gets the members.
    """
    recipe = run.recipe
    if recipe.model.architecture not in WITH_MEMBERS:
        return
    positives = int(run.windows["train"].class_counts()[:, 1].sum()) if len(run.table.rows.label_names) == 2 else None
    count, why = recipe.model.lstm_members, "as lstm_members says"
    if count is None:
        few = recipe.model.architecture == "fusion" and positives is not None and positives < FEW_POSITIVES
        count = MEMBERS if few and _is_frozen(run) else 1
        why = f"since {positives} positive training rows are few. To decide otherwise: lstm_members"
    if count == 1:
        return
    own = {name: recipe.values[name] for name in WHOLE_TRAINING if name in recipe.values}
    own |= {"row_inputs": recipe.model.row_inputs, "statistics": recipe.model.statistics}
    own |= {"network_statistics": recipe.model.network_statistics, "precision": trainer.choice.precision}
    for number in range(1, count):
        logger.info(f"LSTM {number + 1} of {count} is trained.")
        seed = np.random.SeedSequence([recipe.training.seed, number]).generate_state(1)[0]
        with trained_trial(run, seed=int(seed), **own) as (trial, other):
            trial.correct_prior(other.model)  # as the first one's was
            trainer.model.add_members(other.model)
    run.notes.append(f"The LSTM is the mean of {count}, each trained from its own seed, {why}.")


def _is_frozen(run: Any) -> bool:
    """Whether the encoder is frozen for the whole run, all of its parts and layers."""
    training = run.recipe.training
    freeze = training.mapping("freeze")
    thawing = [*training.mapping("gradual_unfreezing"), *(part for part in freeze if freeze[part] != "forever")]
    of_head = all(part.split(".")[0] in OF_HEAD for part in thawing)
    return run.recipe.model.lora is None and freeze.get("encoder") == "forever" and of_head
