"""What training a head minimises, and the metric by which its best checkpoint is kept."""

from ...metrics.scores import metric_names
from ...tasks import PreparedTable
from ...tasks.table_heads import kind_of_labels
from .folder import check_metric
from .recipe import HeadRecipe


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
