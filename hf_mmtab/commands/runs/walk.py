"""One run, whatever it trains: prepare, train, judge, report. What differs is in the `Run` of each kind."""

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from transformers import set_seed
from transformers.utils import logging

from ...evaluation.comparison import ModelResult
from ...evaluation.judging import closing_words
from ...evaluation.run_results import RESULT_FILE, RunResults
from ...evaluation.scored_rows import ScoredRows
from ...files import write_whole
from ...locking import lock_folder
from ...publishing.licences import hub_data_set, known_licence
from ...publishing.local_paths import LocalPaths, hub_names, started_from
from ...publishing.run_files import CARD_NAME
from ...reports.page import PAGE_NAME
from ...training import MMTabTrainer
from ...training.adapters import merged, refuse_frozen_adapters, with_lora
from ...training.checkpoints import TRAINER_STATE_NAME, last_complete_checkpoint, record_files, refuse_files_in_place
from ...training.collapse import course_notes
from ...training.losses import loss_notes
from ...training.soup import Soup
from ...training.tracking import send_report
from ..console import say
from ..damaged_files import damage_named, damaged_file
from .folder import check_metric, publish, refuse_folder, resume_or_refuse, select_by, warn_if_data_changed
from .inventory import TENSORBOARD, announce, files_listed, has_inventory, moved_in, read_inventory, write_inventory
from .own_files import remove_folder
from .own_names import CACHE_FOLDER
from .recipe import Recipe
from .report import REPORT_FOLDER, common_facts, predictions_file, write_report_and_card

logger = logging.get_logger(__name__)

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


class Run(ABC, Generic[AnyRecipe]):
    """What one kind of run does at each step of `execute`.

    Args:
        recipe: of the run.
        is_reference: whether the recipe was written for this architecture. For another one that it is compared with,
            entries about parts that it does not have are left out.

    Attributes:
        processor: of the data, saved beside the model; set by `prepare`.
        possible_metrics: that evaluations of this kind of run give with some labels.
        selection: the metric by which the best checkpoint is kept, and whether more of it is better; set by `prepare`.
        known_metrics: that an evaluation gives; None: any.
        notes: what a reader of the numbers must know.
        config: of the model.
        scored: split → scores; empty in pretraining.
        soup: which checkpoints were averaged.
    """

    trainer_type: type[MMTabTrainer] = MMTabTrainer
    selection: tuple[str, bool] = ("loss", False)
    possible_metrics: Collection[str] = ()
    # Beside those of this run and of its trainer: of runs that it is made of; and of training, also of fitting trees.
    minutes_before: tuple[float, float] = (0.0, 0.0)

    def __init__(self, recipe: AnyRecipe, is_reference: bool = True) -> None:
        self.recipe, self.is_reference = recipe, is_reference
        self.processor: Any = None
        self.known_metrics: Collection[str] | None = None
        self.notes: list[str] = []
        self.config: Any = None
        self.scored: dict[str, ScoredRows] = {}
        self.soup: Soup | None = None

    @classmethod
    def check_metric(cls, recipe: Recipe) -> None:
        """Raise a ValueError, before any data is read, for a `metric_for_best_model` that no labels have."""
        check_metric(recipe.training, cls.possible_metrics, "which this kind of data may have", of_fields=False)

    def check(self) -> None:
        """Refuse what can be refused before the output folder is touched."""

    def data_digest(self) -> str | None:
        """Return a hash of names, sizes and times of the data's files; None: there are none."""
        return self.recipe.task.data_digest(self.recipe.data)

    @abstractmethod
    def prepare(self) -> Any:
        """Read the data, build processor and model; return the model."""

    def describe(self, model: Any) -> str:
        """Return what is about to be trained, on what; empty: nothing to say."""
        return ""

    @abstractmethod
    def trainer_arguments(self, model: Any) -> dict[str, Any]:
        """Return what the trainer takes beside model, arguments and processor."""

    def new_trainer(self, model: Any) -> MMTabTrainer:
        """Make the trainer of a model; `adjust` follows."""
        return self.trainer_type(
            model=model,
            args=self.recipe.training,
            processing_class=self.processor,  # saved beside the weights of every checkpoint
            **self.trainer_arguments(model),
        )

    def adjust(self, trainer: MMTabTrainer) -> None:
        """Change the trainer between its making and training."""

    def average(self, trainer: MMTabTrainer) -> None:
        """Change the weights of a trained model before anything is chosen or judged with them."""

    def tidy(self, trainer: MMTabTrainer) -> None:
        """Remove what only this run needed, once its results are written."""

    def calibrate(self, trainer: MMTabTrainer) -> None:
        """Choose on validation what a trained model needs for its decisions."""

    @abstractmethod
    def judge(self, trainer: MMTabTrainer) -> dict[str, Any]:
        """Evaluate; return the fields of `RunResults` that are this kind's own, at least `architecture` and `split`."""

    def judge_saved(self, trainer: MMTabTrainer) -> dict[str, Any]:
        """Return further fields that need the saved model; the first process alone does it."""
        return {}

    def closing_words(self, results: RunResults) -> list[str]:
        """Return the numbers that end the run, line by line."""
        return closing_words(results)

    def write_predictions(self) -> None:
        """Write what was predicted for each row of the evaluated splits."""

    @abstractmethod
    def facts(self, results: RunResults, others: Mapping[str, ScoredRows]) -> Mapping[str, Any]:
        """Return the fields of `RunFacts` that are this kind's own, at least `title`, `problem_type`, `id2label`.

        Args:
            results: of the run.
            others: name → scores of another model on the rows of the main split.
        """

    def predicted(self, results: RunResults) -> Collection[str]:
        """Return the splits that have a file of predictions."""
        return results.metrics

    @abstractmethod
    def restore(self) -> None:
        """Read what `facts` needs of a finished run; the first process alone does it, so it must wait for no other."""

    def card_options(self) -> dict[str, Any]:
        """Return what the model card says beside the facts: licence, data, and what the weights started from."""
        paths = LocalPaths(self.recipe.values, self.recipe.folder)
        data = str(paths.value("data", self.recipe.data.data))  # such as sample:openclipart, or a file's name
        model = self.recipe.model
        starts = [getattr(model, part, None) for part in ("text_model", "image_model", "pretrained")]
        others = [getattr(model, "glove_path", None), *(getattr(model, "orderings", None) or {}).values()]
        licence, basis = known_licence(self.recipe.data.data, [*starts, *others])
        if self.recipe.run.license is not None:
            licence, basis = self.recipe.run.license, "chosen by who trained the model"
        return {
            "license": licence,
            "license_basis": basis,
            "data_name": data.rpartition(":")[2],
            "datasets": hub_data_set(self.recipe.data.data),
            "base_models": hub_names(starts, paths),
            "starts": started_from(starts, paths),
        }


def execute(run: Run) -> RunResults:
    """Walk one run from recipe to report; a finished run is only read, an interrupted one goes on.

    Returns:
        What `results.json` holds.
    """
    is_main_process = run.recipe.training.process_index == 0
    check_training(run.recipe)
    run.check_metric(run.recipe)
    model = run.recipe.model
    starts = [getattr(model, name, None) for name in ("pretrained", "text_model", "image_model")]
    with damage_named(run.recipe.folder, run.recipe.shared, *starts):
        run.check()
        refuse_files_in_place(run.recipe.folder)
        if is_main_process:
            refuse_folder(run.recipe)
        with lock_folder(run.recipe.folder, is_main_process), files_listed(run.recipe.folder, is_main_process):
            return _execute(run)


def check_training(recipe: Recipe) -> None:
    """Raise a ValueError for a recipe that would train nothing, or whose word the run would not follow."""
    training = recipe.training
    if training.resume_from_checkpoint not in (None, True, "true", "True"):
        raise ValueError(
            f"Expected no resume_from_checkpoint, found {training.resume_from_checkpoint!r}: a run goes on from the "
            "last whole checkpoint in its output_dir by itself. To start from other weights: `pretrained`."
        )
    if training.label_names not in (None, ["labels"]):
        raise ValueError(
            f"Expected no label_names, found {training.label_names!r}: each task knows the labels of its batches. Take "
            "it out of the recipe (`--label_names null`)."
        )
    if training.num_train_epochs <= 0 and training.max_steps <= 0:
        raise ValueError(
            f"Expected num_train_epochs above 0, found {training.num_train_epochs:g}: nothing would be trained. To "
            "judge a saved model, use `hf-mmtab eval_checkpoint`."
        )


def _execute(run: Run) -> RunResults:
    recipe, training = run.recipe, run.recipe.training
    folder, speaks = recipe.folder, training.process_index == 0
    if (done := resume_or_refuse(recipe)) is not None:
        logger.info(f"{folder} holds this run already; reading its results.")
        warn_if_data_changed(done, run.data_digest(), folder)
        told = [line for line in done.summary.splitlines() if not line.startswith(("Model, processor", "Report: "))]
        done.summary = "\n".join([*told, *_places(folder)])  # a folder that was copied named the one before
        if speaks:
            complete(run, done)
        publish(recipe)
        return done
    started = time.time()
    set_seed(training.seed)
    model = run.prepare()
    select_by(training, *run.selection, known=run.known_metrics)
    if description := run.describe(model):
        say(description, speaks)
    if recipe.model.lora is not None:
        model = with_lora(model, recipe.model.lora)
        refuse_frozen_adapters(model, training.mapping("freeze"))
    if speaks and "tensorboard" in training.report_to:
        announce(folder, TENSORBOARD)
    trainer = run.new_trainer(model)
    trainer.before_checkpoint = partial(announce, folder)
    run.adjust(trainer)
    checkpoint = last_complete_checkpoint(folder)
    if checkpoint is not None and speaks:
        announce(folder, Path(checkpoint).name)
        record_files(checkpoint)
    begun = time.time()
    trainer.train(resume_from_checkpoint=checkpoint)
    trained = (time.time() - begun) / 60
    history = trainer.state.log_history
    if checkpoint is not None:
        run.notes.append(f"The run went on from {Path(checkpoint).name}: its minutes are those since then.")
        logger.info(run.notes[-1])
    trainer.model = trainer.model_wrapped = merged(trainer.model)
    run.average(trainer)
    run.notes += [*course_notes(history, training), *loss_notes(history, training)]
    run.calibrate(trainer)
    _save(trainer, folder, speaks)
    results = RunResults(
        **run.judge(trainer),
        data=recipe.data.data,
        task=recipe.task.name,
        data_digest=run.data_digest(),
        pretrained=recipe.model.pretrained,
        seed=training.seed,
        notes=run.notes,
        soup=None if run.soup is None else asdict(run.soup),
        minutes=(time.time() - started) / 60 + run.minutes_before[0],
        training_minutes=trained + run.minutes_before[1],
    )
    if speaks:
        finish(run, trainer, results)
    run.tidy(trainer)
    publish(recipe)
    trainer.accelerator.wait_for_everyone()
    return results


def _save(trainer: MMTabTrainer, folder: Path, speaks: bool) -> None:
    """Save model, processor and the state of the training."""
    with moved_in(folder, moves=speaks) as draft:
        trainer.accelerator.wait_for_everyone()
        trainer.save_model(str(draft), _internal_call=True)  # `_internal_call`: no push before everything is written
        if speaks:
            trainer.state.save_to_json(str(draft / TRAINER_STATE_NAME))
        trainer.accelerator.wait_for_everyone()


def finish(run: Run, trainer: MMTabTrainer, results: RunResults) -> None:
    """Write predictions, report and card, and last the results, which mark the run as finished."""
    recipe, folder = run.recipe, run.recipe.folder
    for name, value in run.judge_saved(trainer).items():
        setattr(results, name, value)
    results.summary = "\n".join([*run.closing_words(results), *_places(folder)])
    run.write_predictions()
    send_report(folder, write_run_report(run, results), recipe.training.report_to)
    if recipe.shared is None:
        remove_folder(folder, CACHE_FOLDER)  # it can be large
    write_inventory(folder)
    write_whole(folder / RESULT_FILE, results.to_json())


def _places(folder: Path) -> list[str]:
    """Return the lines that end a run: where its model and its report lie."""
    return [f"Model, processor and card: {folder}", f"Report: {folder / REPORT_FOLDER / PAGE_NAME}"]


def complete(run: Run, results: RunResults) -> None:
    """Write the report and the card of a finished run again, if they are gone.

    Raises:
        FileNotFoundError: if what only training or judging can make is gone.
        ValueError: if it is damaged.
    """
    folder = run.recipe.folder
    needed = [folder / "config.json", *(predictions_file(folder, split) for split in run.predicted(results))]
    if absent := [str(path) for path in needed if not path.is_file()]:
        raise FileNotFoundError(
            f"Expected the finished run in {str(folder)!r} to be whole, found no {', '.join(absent)}. Put it back, or "
            f"delete {str(folder / RESULT_FILE)!r}: the same command then goes on from the last checkpoint, and judges "
            "anew."
        )
    if sentence := damaged_file(folder, needed=True):
        raise ValueError(sentence)
    if has_inventory(folder) and read_inventory(folder) is None:  # killed while its list was written anew
        write_inventory(folder)
    texts = (folder / REPORT_FOLDER / PAGE_NAME, folder / CARD_NAME)
    if absent := [path.name for path in texts if not is_whole(path)]:
        logger.info(f"{' and '.join(absent)} of {folder} is gone; it is written again.")
        try:
            with damage_named(folder, run.recipe.shared):
                run.restore()
                write_run_report(run, results, wanted=absent)
        except (OSError, ValueError) as error:  # the data of a finished run may be elsewhere by now
            logger.warning(f"The report or the card could not be written again: {error}")


def is_whole(text: Path) -> bool:
    """Whether a report or a card is there, to its last line."""
    if not text.is_file():
        return False
    content = text.read_bytes().rstrip()
    return content.endswith(b"</html>") if text.suffix == ".html" else bool(content)


def write_run_report(
    run: Run,
    results: RunResults,
    comparison: Sequence[ModelResult] = (),
    others: Mapping[str, ScoredRows] | None = None,
    wanted: Collection[str] = (PAGE_NAME, CARD_NAME),
) -> Path:
    """Write the report and the card of a run; return the report's page.

    Args:
        run: judged or restored.
        results: of the run.
        comparison: this model and others on the same rows.
        others: name → scores of another model on the rows of the main split, for the curves.
        wanted: which of both is written.
    """
    own = {**run.facts(results, others or {}), "comparison": comparison}
    explained = own.get("explained", {})
    own["explained"] = {one.name: explained[one.name] for one in comparison if one.name in explained}
    facts = common_facts(run.recipe.folder, results, run.recipe.command, own)
    return write_report_and_card(facts, run.recipe.folder, wanted, **run.card_options())
