"""How a head trains: when the encoder below it thaws, what is minimised, and by which metric the best is kept."""

from typing import Any

from ...metrics.scores import metric_names
from ...models.tabbert.tree_files import import_lightgbm
from ...table_baselines import BASELINES
from ...table_baselines.running import AMOUNT
from ...tasks import PreparedTable
from ...tasks.table_heads import HEAD_PARTS, kind_of_labels, reads_statistics
from .folder import check_metric, leave_out_absent_parts
from .own_names import CACHE_FOLDER
from .recipe import HeadRecipe

MANY_POSITIVES = 10_000  # from which a thawed encoder is worth a trial: see model_cards/README.md


def choose_freezing(run: Any, model: Any) -> list[str]:
    """Keep a pretrained encoder frozen unless the recipe thaws or adapts it; share its outputs between runs.

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
    if training.freeze is None and recipe.model.lora is None and "encoder" in model.freezable_modules:
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
    if recipe.model.auxiliary_next_row and (why := _against_auxiliary(recipe, model)):
        run.refuse_or_leave_out(["auxiliary_next_row"], why)
    if recipe.shared is not None and training.feature_cache_dir is None:
        training.feature_cache_dir = str(recipe.shared / CACHE_FOLDER)
    return told


def _against_auxiliary(recipe: Any, model: Any) -> str | None:
    """Return why `auxiliary_next_row` would have no effect."""
    training = recipe.training
    if "encoder" not in model.freezable_modules:
        return (
            f"Expected a head on an encoder beside auxiliary_next_row, found architecture {recipe.model.architecture}, "
            "which has none. Leave it out, or use architecture: lstm."
        )
    if training.mapping("freeze").get("encoder") == "forever":
        return (
            "Expected an encoder that thaws beside auxiliary_next_row, found one that is frozen for the whole run. Let "
            "it thaw, for example with freeze: {encoder: 2 epochs}, or leave auxiliary_next_row out."
        )
    if training.loss != "model" or training.class_weights is not None:
        return (
            f"Expected the model's own loss beside auxiliary_next_row, found loss: {training.loss} and class_weights: "
            f"{training.class_weights}. Remove one of them."
        )
    return None


def check_baselines(recipe: HeadRecipe, table: PreparedTable) -> None:
    """Check before hours of training that the baselines that come after it can run.

    Raises:
        ValueError: if there is no amount to judge by, or only ids are known of the rows.
        ImportError: without LightGBM.
    """
    named = [name for name in recipe.run.compare if name in BASELINES]
    if named or reads_statistics(recipe.model):
        table.require_values()
    if AMOUNT in named:
        kinds = [field.kind for field in table.processor.plan.fields]
        if "money" not in kinds or len(table.rows.label_names) != 2:
            raise ValueError(
                "Expected a field of kind money and a label of two classes for the baseline amount, found fields of "
                f"kind {', '.join(dict.fromkeys(kinds))} and {len(table.rows.label_names) or 'no'} classes. Leave it "
                "out of `compare`."
            )
    if set(named) - {AMOUNT}:
        import_lightgbm()


def check_metric_of_labels(recipe: HeadRecipe, table: PreparedTable) -> None:
    """Raise a ValueError, before anything is trained, for a `metric_for_best_model` that these labels do not have."""
    problem_type, names = kind_of_labels(recipe.data, table)
    kind = "numbers" if problem_type == "regression" else f"{len(names)} classes"
    which = f"which labels of {kind} ({', '.join(names[:10])}{', …' if len(names) > 10 else ''}) have"
    check_metric(recipe.training, metric_names(problem_type, dict(enumerate(names))), which)


def loss_name(recipe: HeadRecipe) -> str:
    """Return the loss that training minimises: the trainer's, or the head's own."""
    own = recipe.model.classification_loss or "cross_entropy"
    return own if recipe.training.loss == "model" else recipe.training.loss


def choose_loss(recipe: HeadRecipe) -> None:
    """Let class weights go through the trainer's loss, which keeps their meaning however batches are cut.

    Raises:
        ValueError: if weights are given beside a loss that has none.
    """
    if recipe.training.class_weights is None:
        return
    if loss_name(recipe) not in ("cross_entropy", "focal"):
        raise ValueError(
            f"Expected a loss cross_entropy or focal beside class_weights, found {loss_name(recipe)!r}. Remove one of "
            "them."
        )
    recipe.training.loss = loss_name(recipe)
