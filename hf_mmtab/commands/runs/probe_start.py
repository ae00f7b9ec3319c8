"""A run of pictures and texts that starts from a linear probe, and is the probe where training made it worse."""

from typing import Any

from transformers import AutoConfig, TrainerCallback, set_seed
from transformers.utils import logging

from ...evaluation.combining import log_loss
from ...files import write_whole
from ...image_text_baselines import pool_by_mean
from ...metrics import scores_for
from ...metrics.names import label_names
from ...training import MMTabTrainer
from ...training.checkpoints import last_complete_checkpoint
from ...training.collapse import PUT_BACK
from .folder import leave_out_absent_parts

logger = logging.get_logger(__name__)

DISCARDED = "Update audit, learning curves and checkpoints are of the training, which was discarded."
RECORD = "start_log_loss"  # entry of the log history, so that a resumed run knows of it


class StartRecord(TrainerCallback):
    """Notes in the log history how good the start was on validation."""

    def __init__(self, measured: dict[str, float]):
        self.measured = measured

    def on_train_begin(self, args, state, control, **kwargs):
        """Write the record of a run that begins."""
        if not state.global_step:
            state.log_history.append({**self.measured, "epoch": 0.0, "step": 0})


def start_from_probe(run: Any, trainer: MMTabTrainer) -> None:
    """Choose the pooling, and let the classifier start from a probe, where the recipe asks for it.

    Args:
        run: an `ImageTextRun` with its data.
        trainer: with the model as it starts.
    """
    recipe, config, given = run.recipe, trainer.model.config, run.recipe.model
    is_open = given.text_pooling == "auto" and config.text_config is not None
    with_classifier = given.classifier_start == "linear_probe"
    if given.pretrained is not None or not (with_classifier or is_open):
        return
    if checkpoint := last_complete_checkpoint(recipe.folder):  # training goes on from it
        if AutoConfig.from_pretrained(checkpoint).text_pooling == "mean":
            pool_by_mean(trainer.model)
        run.notes.append(f"text_pooling: {config.text_pooling}, as when this run began.")
    else:
        poolings = ("cls", "mean") if is_open else (config.text_pooling,)
        start = run.linear_starter(trainer).start(poolings, with_classifier)
        run.notes.append(str(start))
        logger.info(run.notes[-1])
        if with_classifier:
            trainer.add_callback(StartRecord(_measured(run, trainer)))
    leave_out_absent_parts(recipe, recipe.task.parts, trainer.model, is_reference=False)


def keep_better_start(run: Any, trainer: MMTabTrainer) -> None:
    """Put the start back where training made it worse on validation, by the headline metric and by log loss.

    Large weights of a probe on a few rows that a line separates are easily lost in the first steps.

    Args:
        run: see `start_from_probe`; its model is trained.
        trainer: with the trained model, whose weights change.
    """
    before = next((one for one in trainer.state.log_history if RECORD in one), None)
    if before is None:
        return
    metric, after = f"eval_{run.selection[0]}", _measured(run, trainer)
    if after[RECORD] <= before[RECORD] or after[metric] >= before[metric]:
        return
    config = trainer.model.config
    set_seed(run.recipe.training.seed)  # what the probe does not set is drawn
    model = run.new_model(config.problem_type, label_names(config))
    again = MMTabTrainer(model=model, args=run.recipe.training, **run.trainer_arguments(model))
    run.linear_starter(again).start((config.text_pooling,), True)
    trainer.model.load_state_dict(model.state_dict())
    trainer.state.log_history.append({PUT_BACK: True, "epoch": 0.0, "step": 0})
    run.soup = None
    run.notes = [note for note in run.notes if not note.startswith("soup: ")]
    audit = run.recipe.folder / "update_audit.txt"
    if trainer.is_world_process_zero() and audit.is_file():
        write_whole(audit, f"{DISCARDED}\n\n{audit.read_text(encoding='utf-8')}")
    run.notes.append(
        "The model is the linear probe that it started from, since training made it worse on validation: "
        f"{run.selection[0]} {before[metric]:.3f} before and {after[metric]:.3f} after, log loss {before[RECORD]:.3f} "
        f"and {after[RECORD]:.3f}. {DISCARDED} More epochs or a lower learning_rate may help; classifier_start: random "
        "starts without a probe."
    )
    logger.warning(run.notes[-1])


def _measured(run: Any, trainer: MMTabTrainer) -> dict[str, float]:
    """Return headline metric and log loss on validation."""
    config, metric = trainer.model.config, run.selection[0]
    scored = run.scores_of(trainer, "validation")
    assert scored.labels is not None
    names = dict(enumerate(label_names(config)))
    found = scores_for(config.problem_type, scored.labels, scored.probabilities, names)
    return {RECORD: log_loss(scored.probabilities, scored.labels), f"eval_{metric}": float(found[metric])}
