"""When the encoder below a head thaws, and what is learned beside the labels once it has."""

from typing import Any

from ...tasks.table_heads import HEAD_PARTS
from .folder import leave_out_absent_parts
from .own_names import CACHE_FOLDER

MANY_POSITIVES = 10_000  # from which a thawed encoder is worth a trial: see model_cards/README.md


def choose_freezing(run: Any, model: Any) -> list[str]:
    """Keep a pretrained encoder frozen unless the recipe says when it thaws; share its outputs between runs.

    Args:
        run: a `HeadRun`; the training arguments of its recipe are changed.
        model: of the run.

    Returns:
        What to say of it.

    Raises:
        ValueError: if `auxiliary_next_row` could have no effect.
    """
    recipe, training = run.recipe, run.recipe.training
    told = []
    if training.freeze is None and "encoder" in model.freezable_modules:
        training.freeze = {"encoder": "forever"}
        labels = run.windows["train"]
        positive = int(labels.class_counts()[:, 1].sum()) if len(labels.rows.label_names) == 2 else 0
        if positive > MANY_POSITIVES:
            rate = 0.3 * training.learning_rate
            told = [
                f"The encoder stays frozen; with {positive:,} positive labels it is worth a trial to thaw it: freeze: "
                f"{{encoder: 2 epochs}}, part_learning_rates: {{encoder: {rate:.1e}}}."
            ]
    leave_out_absent_parts(recipe, HEAD_PARTS, model, run.is_reference)
    if run.is_reference and recipe.model.auxiliary_next_row:
        _check_auxiliary(recipe, model)
    if recipe.shared is not None and training.feature_cache_dir is None:
        training.feature_cache_dir = str(recipe.shared / CACHE_FOLDER)
    return told


def _check_auxiliary(recipe: Any, model: Any) -> None:
    training = recipe.training
    if "encoder" not in model.freezable_modules:
        raise ValueError(
            f"Expected a head on an encoder beside auxiliary_next_row, found architecture {recipe.model.architecture}, "
            "which has none. Leave it out, or use architecture: lstm."
        )
    if training.mapping("freeze").get("encoder") == "forever":
        raise ValueError(
            "Expected an encoder that thaws beside auxiliary_next_row, found one that is frozen for the whole run. Let "
            "it thaw, for example with freeze: {encoder: 2 epochs}, or leave auxiliary_next_row out."
        )
    if training.loss != "model" or training.class_weights is not None:
        raise ValueError(
            f"Expected the model's own loss beside auxiliary_next_row, found loss: {training.loss} and class_weights: "
            f"{training.class_weights}. Remove one of them."
        )
