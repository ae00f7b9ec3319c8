"""Fine-tune a head on windows of a table's rows: train, choose a threshold, evaluate, compare, report."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, EvalPrediction, set_seed
from transformers.utils import logging

from ..data.splits import leak_check
from ..data.windows import WindowDataset
from ..evaluation.comparison import compare_scored, comparison_markdown
from ..evaluation.row_evaluation import choose_threshold, headline
from ..evaluation.scored_rows import ScoredRows, scored_rows
from ..metrics import metric_names, scores_for
from ..models.tabbert.collating_tabbert import TabBertCollator
from ..table_baselines import BASELINES, TableBaselines
from ..table_baselines.boosting import import_lightgbm
from ..table_baselines.running import AMOUNT
from ..tasks import PreparedTable
from ..tasks.table_heads import HEAD_PARTS, HEADS, head_model
from ..tasks.table_labels import (
    check_labels,
    class_shares,
    correct_bias,
    epoch_sampler,
    start_bias,
    with_labels,
)
from ..training import MMTabTrainer
from ..training.checkpoints import last_complete_checkpoint
from ..training.imbalance import ImbalanceSampler
from .console import parameters, say
from .pretrain import EVALUATED, leak_sentence
from .run_folder import (
    CACHE_FOLDER,
    TABLE_FOLDER,
    Recipe,
    SaveProcessor,
    leave_out_absent_parts,
    push_if_asked,
    resume_or_refuse,
    select_by,
    tell_changed_data,
)
from .run_report import RESULT_FILE
from .table_blocks import recipe_of
from .table_report import write_table_report
from .table_results import (
    describe_windows,
    later_rows_note,
    length_note,
    logits_of,
    predict_windows,
    predictions_file,
    pretraining_note,
    score_note,
    split_results,
    summarise,
)

logger = logging.get_logger(__name__)

ARCHITECTURES = tuple(HEADS)


class WindowTrainer(MMTabTrainer):
    """Draws training windows with a sampler of its own, if there is one.

    Args:
        sampler: of the training windows; None: each once, shuffled.
        kwargs: what `MMTabTrainer` takes.
    """

    def __init__(self, *args: Any, sampler: ImbalanceSampler | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampler = sampler

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.sampler if self.sampler is not None else super()._get_train_sampler(train_dataset)


def finetune(recipe: Recipe, is_reference: bool = True) -> dict[str, Any]:
    """Train and evaluate one run; a finished run is only read.

    Args:
        recipe: of the run.
        is_reference: whether the recipe was written for this architecture, see `leave_out_absent_parts`.

    Returns:
        What `results.json` holds.
    """
    folder, training = Path(recipe.training.output_dir), recipe.training
    if (done := resume_or_refuse(recipe, folder)) is not None:
        logger.info(f"{folder} holds this run already; reading its results.")
        tell_changed_data(done, recipe.task.data_digest(recipe.data), folder)
        push_if_asked(recipe, folder)
        return done
    started = time.time()
    set_seed(training.seed)
    table, windows = prepare(recipe)
    check_labels(windows)
    check_baselines(recipe, table)
    model: Any = head_model(recipe.data, recipe.model, table, windows["train"])
    choose_freezing(recipe, model, is_reference)
    choose_loss(recipe)
    choose_checkpoint_by(recipe, model.config)
    sampler = epoch_sampler(recipe.run, windows["train"], training.seed)
    leaks = {split: leak_check(windows["train"], windows[split], split) for split in EVALUATED}
    notes = [leak_sentence(split, leak) for split, leak in leaks.items()]
    if recipe.model.pretrained is not None:
        before = recipe_of(recipe.model.pretrained)
        notes += pretraining_note(before, recipe.values) + length_note(before, recipe.data.seq_len)
        notes += head_note(recipe.model.pretrained, recipe.model.architecture)
    if later := later_rows_note(model.config, recipe.model.architecture != "raw_lstm"):
        logger.warning(later[0])
    say(describe(recipe, windows, notes, model, sampler), training.process_index == 0)

    trainer = WindowTrainer(
        model=model,
        args=training,
        train_dataset=windows["train"],
        eval_dataset=windows["validation"],
        data_collator=TabBertCollator(table.processor, row_labels=model.config.label_level == "row"),
        compute_metrics=metrics_on(windows["validation"], model.config),
        callbacks=[SaveProcessor(table.processor)],
        label_counts=windows["train"].class_counts().sum(axis=0).tolist() if table.rows.label_names else None,
        sampler=sampler,
    )
    loss: Any = trainer.compute_loss_func
    weights = None if loss is None or loss.weights is None else loss.weights.tolist()
    shares = class_shares(windows["train"], sampler, weights)
    if shares is not None and loss_name(recipe) in ("cross_entropy", "focal"):
        start_bias(model.classifier, shares)
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(str(folder)))

    config = trainer.model.config
    if shares is not None and shares.differ:
        if recipe.run.correct_prior and loss_name(recipe) == "cross_entropy":
            shares = correct_bias(trainer.model.classifier, shares)
        notes.append(shares.note(str(config.id2label[config.num_labels - 1])))
    scored = {"validation": predict_windows(trainer, windows["validation"], config)}
    config.threshold = choose_threshold(scored["validation"])
    scored["test"] = predict_windows(trainer, windows["test"], config)
    trainer.save_model(_internal_call=True)  # pushed once, when all is written
    trainer.save_state()
    results = {
        "architecture": recipe.model.architecture,
        "task": recipe.task.name,
        "data": recipe.data.data,
        "data_digest": recipe.task.data_digest(recipe.data),
        "pretrained": recipe.model.pretrained,
        "seed": training.seed,
        **split_results(scored, config, "test", recipe.run.bootstrap, recipe.run.resample_by),
        "minutes": (time.time() - started) / 60,
        "windows": {split: len(found) for split, found in windows.items()},
        "leaks": leaks,
        "notes": notes,
        "skipped": [record.to_dict() for record in table.skipped],
        "details": details(recipe, model),
    }
    notes += score_note(results["metrics"]["test"])
    results["summary"] = summarise(folder, results)
    if trainer.is_world_process_zero():
        table.processor.save_pretrained(folder)
        for split, found in scored.items():
            found.save(predictions_file(folder, split), table.rows.row_numbers)
        (folder / RESULT_FILE).write_text(json.dumps(results, indent=1), encoding="utf-8")
        write_table_report(folder, table, table.dataset, windows, scored, recipe.command)
        if recipe.shared is None:
            shutil.rmtree(folder / CACHE_FOLDER, ignore_errors=True)
    push_if_asked(recipe, folder)
    trainer.accelerator.wait_for_everyone()
    return results


def compare(root: Path, recipe: Recipe, finished: dict[str, list[dict[str, Any]]]) -> str:
    """Compare all runs and the baselines on the test rows: `comparison.md`, and the report of the first; say it."""
    recipe.shared = root
    table, windows = prepare(recipe)
    first = next(iter(finished.values()))[0]
    split, folder = first["split"], root / f"{recipe.model.architecture}-seed{first['seed']}"
    models, thresholds, minutes = {}, {}, {}
    for name, runs in finished.items():
        files = [predictions_file(root / f"{name}-seed{run['seed']}", split) for run in runs]
        models[name] = [ScoredRows.load(file) for file in files]
        thresholds[name] = [run["thresholds"][0] if run["thresholds"] else None for run in runs]
        minutes[name] = [run["minutes"] for run in runs]
    baselines = TableBaselines(table, table.dataset, windows)
    for name in dict.fromkeys(name for name in recipe.run.compare if name in BASELINES):
        models[name], thresholds[name], minutes[name] = [], [], []
        seeds = recipe.run.seeds or [recipe.training.seed]
        for seed in seeds[:1] if name == AMOUNT else seeds:  # the amount alone has nothing random
            started = time.time()
            scored = baselines.run(name, seed)
            for part, rows in scored.items():
                rows.save(predictions_file(root / f"{name}-seed{seed}", part), table.rows.row_numbers)
            models[name].append(scored[split])
            thresholds[name].append(choose_threshold(scored["validation"]))
            minutes[name].append((time.time() - started) / 60)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    id2label = {int(number): label for number, label in config["id2label"].items()}
    results = compare_scored(
        models,
        first["problem_type"],
        id2label,
        thresholds,
        minutes,
        recipe.run.resample_by,
        recipe.run.bootstrap,
    )
    text = comparison_markdown(results, headline(first["problem_type"], len(id2label)), split)
    (root / "comparison.md").write_text(text + "\n", encoding="utf-8")
    own = {part: ScoredRows.load(predictions_file(folder, part)) for part in EVALUATED}
    others = {name: found[0] for name, found in models.items() if name != recipe.model.architecture}
    page = write_table_report(folder, table, table.dataset, windows, own, recipe.command, results, others)
    shutil.rmtree(root / CACHE_FOLDER, ignore_errors=True)
    return f"\n{text}\n\nTable: {root / 'comparison.md'}\nModel, processor and card: {folder}\nReport: {page}"


# ---- What the recipe leaves open ----


def check_baselines(recipe: Recipe, table: PreparedTable) -> None:
    """Find out before hours of training whether the baselines that come after it can run.

    Raises:
        ValueError: if there is no amount to judge by.
        ImportError: without LightGBM.
    """
    named = [name for name in recipe.run.compare if name in BASELINES]
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


def prepare(recipe: Recipe) -> tuple[PreparedTable, dict[str, WindowDataset]]:
    """Encode the table, into the folder that runs share if there is one, and cut labelled windows of every split.

    Where the recipe does not say how far windows are apart, each row is the last one of a window (`last`), windows lie
    side by side (`any`), or overlap by half, so that a judged row has at least half a window before it (`every`).
    """
    data, label, task = recipe.data, recipe.run.window_label, recipe.task
    apart = {"last": 1, "any": data.seq_len, "every": max(1, data.seq_len // 2)}[label]
    if recipe.values.get("stride") is None:
        data.stride = apart
    if data.eval_stride is None and data.split != "paper":
        data.eval_stride = apart
    folder = (recipe.shared or Path(recipe.training.output_dir)) / TABLE_FOLDER
    with recipe.training.main_process_first(desc="preparing the table"):
        table = task.prepare(data, folder, recipe.model.pretrained, needs_label=True)
    windows = {split: task.windows(data, table.rows, split, label) for split in ("train", *EVALUATED)}
    return table, with_labels(windows)


def choose_freezing(recipe: Recipe, model: Any, is_reference: bool) -> None:
    """Keep a pretrained encoder frozen unless the recipe says when it thaws; share its outputs between runs."""
    training = recipe.training
    if training.freeze is None and "encoder" in model.freezable_modules:
        training.freeze = {"encoder": "forever"}
    leave_out_absent_parts(recipe, HEAD_PARTS, model, is_reference)
    if recipe.shared is not None and training.feature_cache_dir is None:
        training.feature_cache_dir = str(recipe.shared / CACHE_FOLDER)


def head_note(pretrained: str, architecture: str) -> list[str]:
    """Say if a checkpoint has a head of its own, which the new one does not begin from."""
    heads = [
        name
        for name in AutoConfig.from_pretrained(pretrained).architectures or []
        if name.endswith("ForSequenceClassification")
    ]
    if not heads or architecture == "raw_lstm":
        return []
    return [
        f"{pretrained} is a {heads[0]}: only its encoder is taken. Its head is left behind, and the new one starts "
        "from random weights."
    ]


def loss_name(recipe: Recipe) -> str:
    """Return the loss that training minimises: the trainer's, or the head's own."""
    own = recipe.model.classification_loss or "cross_entropy"
    return own if recipe.training.loss == "model" else recipe.training.loss


def choose_loss(recipe: Recipe) -> None:
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


def choose_checkpoint_by(recipe: Recipe, config: Any) -> None:
    """Keep the best checkpoint by the error of numbers, the average precision of two classes, or macro-F1."""
    known = metric_names(config.problem_type, config.id2label)
    if config.problem_type == "regression":
        select_by(recipe.training, "rmse", greater_is_better=False, known=known)
    else:
        metric = "average_precision" if config.num_labels == 2 else "macro_f1"
        select_by(recipe.training, metric, known=known)


def metrics_on(windows: WindowDataset, config: Any) -> Callable[[EvalPrediction], dict[str, float]]:
    """Return Trainer's `compute_metrics` for these windows: every judged row counts once."""

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        scored = scored_rows(windows, logits_of(prediction.predictions), config.problem_type).labelled
        assert scored.labels is not None
        return scores_for(config.problem_type, scored.labels, scored.probabilities, config.id2label)

    return compute_metrics


def describe(
    recipe: Recipe,
    windows: dict[str, WindowDataset],
    notes: list[str],
    model: Any,
    sampler: ImbalanceSampler | None,
) -> str:
    """Return what is about to be trained, on what, and what leaks."""
    on = (
        "raw cells"
        if recipe.model.architecture == "raw_lstm"
        else f"the encoder of {recipe.model.pretrained}"
    )
    lines = [
        describe_windows(windows, recipe.data.seq_len, recipe.run.window_label),
        f"{recipe.model.architecture} on {on}: {model.num_parameters():,} parameters",
        *notes,
    ]
    if sampler is not None:
        share = sampler.drawn_positives / len(sampler)
        lines.append(f"An epoch draws {len(sampler):,} windows, {share:.1%} of them positive.")
    return "\n".join(lines)


def details(recipe: Recipe, model: Any) -> dict[str, str]:
    """Return what the head of the report says about the model."""
    found = {"parameters": parameters(model.num_parameters()), "window": f"{recipe.data.seq_len} rows"}
    encoder = recipe.model.pretrained
    if encoder and Path(encoder).is_dir():
        encoder = Path(encoder).resolve().name  # the card is for others, who have other folders
    return found | ({"encoder": encoder} if encoder else {})
