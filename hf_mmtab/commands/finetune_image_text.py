"""Fine-tune MMBT or one of its baselines: train, tune thresholds, evaluate, blank the inputs, report."""

import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from transformers import set_seed
from transformers.utils import logging

from ..arguments import IMAGE_TEXT_ARCHITECTURES
from ..evaluation.ablation import AblationRow, ablation_table
from ..evaluation.comparison import ModelRuns, compare_runs, comparison_markdown
from ..evaluation.split_evaluation import (
    HEADLINE,
    SplitResult,
    evaluate_split,
    label_names,
    predict_split,
    write_split_predictions,
)
from ..metrics import compute_metrics_for, metric_names, scores_for, tune_thresholds
from ..reports.page import PAGE_NAME
from ..tasks import ImageTextTask, label_ids_of_model
from ..training import MMTabTrainer
from ..training.checkpoints import last_complete_checkpoint
from .run_folder import (
    CACHE_FOLDER,
    Recipe,
    SaveProcessor,
    leave_out_absent_parts,
    push_if_asked,
    resume_or_refuse,
    select_by,
    tell_changed_data,
)
from .run_report import (
    PREDICTIONS_FOLDER,
    REPORT_FOLDER,
    RESULT_FILE,
    gold_labels,
    read_probabilities,
    write_run_report,
)

logger = logging.get_logger(__name__)

ARCHITECTURES = IMAGE_TEXT_ARCHITECTURES
BASELINES: tuple[str, ...] = ()  # names to compare with that are no architectures
SELECTION_METRIC = {"single_label_classification": "accuracy", "multi_label_classification": "micro_f1"}


def finetune(recipe: Recipe, is_reference: bool = True) -> dict[str, Any]:
    """Train and evaluate one run; a finished run is only read.

    Args:
        recipe: of the run.
        is_reference: whether the recipe was written for this architecture. For another one that it is compared
            with, entries about parts that it does not have are left out.

    Returns:
        What `results.json` holds.
    """
    folder = Path(recipe.training.output_dir)
    if (done := resume_or_refuse(recipe, folder)) is not None:
        logger.info(f"{folder} holds this run already; reading its results.")
        tell_changed_data(done, recipe.task.data_digest(recipe.data), folder)
        return done
    started = time.time()
    set_seed(recipe.training.seed)
    splits, skipped = recipe.task.load(recipe.data)
    train, validation = splits["train"], splits["validation"]
    problem_type, names = recipe.task.labels(train)
    processor = recipe.task.processor(recipe.model)
    model: Any = recipe.task.model(
        recipe.model, problem_type, names, processor, "sentence2" in train.column_names
    )
    if recipe.model.pretrained is not None:  # the model's own numbering of the labels
        splits = datasets.DatasetDict(
            {name: label_ids_of_model(rows, model.config) for name, rows in splits.items()}
        )
        train, validation, names = splits["train"], splits["validation"], label_names(model.config)
    leave_out_absent_parts(recipe, recipe.task.parts, model, is_reference)
    if recipe.training.feature_cache_dir is None:  # one that is named is filled by evaluations too
        recipe.training.feature_cache_dir = str((recipe.shared or folder) / CACHE_FOLDER)
    known = metric_names(problem_type, model.config.id2label)
    select_by(recipe.training, SELECTION_METRIC[problem_type], known=known)

    trainer = MMTabTrainer(
        model=model,
        args=recipe.training,
        train_dataset=recipe.task.encode(train, processor, augment=True),
        eval_dataset=recipe.task.encode(validation, processor),
        data_collator=recipe.task.collator(recipe.data, processor, len(names)),
        processing_class=processor if processor.tokenizer is not None else None,
        callbacks=[] if processor.tokenizer is not None else [SaveProcessor(processor)],
        compute_metrics=compute_metrics_for(problem_type, model.config.id2label),
        label_counts=recipe.task.label_counts(train),
    )
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(str(folder)))
    speaks = trainer.is_world_process_zero()

    if problem_type == "multi_label_classification":
        probabilities, labels = predict_split(
            trainer, recipe.task.encode(validation, processor), problem_type
        )
        trainer.model.config.thresholds = tune_thresholds(probabilities, labels)
    trainer.save_model()
    trainer.save_state()
    if speaks:
        processor.save_pretrained(folder)

    config = trainer.model.config
    evaluated = {name: rows for name, rows in splits.items() if name != "train"}
    results = {
        name: evaluate_split(
            trainer,
            recipe.task.encode(rows, processor),
            name,
            config,
            0 if name == "validation" else recipe.run.bootstrap,
        )
        for name, rows in evaluated.items()
    }
    final = "test" if "test" in splits else "validation"
    ablation = []
    if recipe.run.ablation:
        ablation = ablate_modalities(recipe.task, trainer, splits[final], processor, results[final])
    minutes = (time.time() - started) / 60
    found = {
        "architecture": recipe.model.architecture,
        "data": recipe.data.data,
        "data_digest": recipe.task.data_digest(recipe.data),
        "inputs": list(recipe.task.modalities(train)),
        "seed": recipe.training.seed,
        "minutes": minutes,
        "split": final,
        "thresholds": getattr(config, "thresholds", None),
        "metrics": {name: result.metrics for name, result in results.items()},
        "intervals": {
            name: {metric: dataclasses.astuple(interval) for metric, interval in result.intervals.items()}
            for name, result in results.items()
        },
        "ablation": [dataclasses.asdict(row) for row in ablation],
        "skipped": [record.to_dict() for record in skipped],
    }
    found["summary"] = summarise(folder, results[final], ablation, problem_type, minutes)
    if speaks:
        for name, rows in evaluated.items():
            write_split_predictions(
                folder / PREDICTIONS_FOLDER / f"{name}.parquet", rows, results[name], config
            )
        text = json.dumps(found, indent=1)
        (folder / RESULT_FILE).write_text(text, encoding="utf-8")
        write_run_report(folder, evaluated, recipe.command)
        if recipe.shared is None:
            shutil.rmtree(folder / CACHE_FOLDER, ignore_errors=True)  # it can be large
    push_if_asked(recipe, folder, trainer)
    trainer.accelerator.wait_for_everyone()
    return found


def ablate_modalities(
    task: ImageTextTask, trainer: MMTabTrainer, rows: datasets.Dataset, processor: Any, intact: SplitResult
) -> list[AblationRow]:
    """Blank and shuffle one input at a time, if the model reads more than one."""
    config = trainer.model.config
    modalities = task.modalities(rows)
    if getattr(config, "baseline", "") in ("bow", "img", "bert") or len(modalities) < 2 or len(rows) < 2:
        return []

    def scores(ablated: datasets.Dataset) -> dict[str, float]:
        probabilities, labels = predict_split(trainer, task.encode(ablated, processor), config.problem_type)
        thresholds = getattr(config, "thresholds", None)
        return scores_for(config.problem_type, labels, probabilities, config.id2label, thresholds)

    return ablation_table(scores, rows, modalities, HEADLINE[config.problem_type], intact=intact.metrics)


def summarise(
    folder: Path, result: SplitResult, ablation: Sequence[AblationRow], problem_type: str, minutes: float
) -> str:
    """Return the closing words of a run."""
    lines = [f"\nResults on {result.split} ({len(result.labels)} rows), {minutes:.1f} minutes:"]
    for name in HEADLINE[problem_type]:
        if name in result.metrics:
            interval = result.intervals.get(name)
            lines.append(
                f"  {name:26} {interval if interval is not None else format(result.metrics[name], '.3f')}"
            )
    for row in ablation:
        if row.metric == HEADLINE[problem_type][0]:
            lines.append(
                f"  {row.how + ' ' + row.modality:26} {row.value:.3f} ({round(-row.fall, 3) + 0.0:+.3f})"
            )
    lines += [f"Model, processor and card: {folder}"] if (folder / "config.json").exists() else []
    lines += [f"Report: {folder / REPORT_FOLDER / PAGE_NAME}"]
    return "\n".join(lines)


def compare(root: Path, recipe: Recipe, finished: dict[str, list[dict[str, Any]]]) -> str:
    """Compare all runs on the test rows that they share: `comparison.md`, and the report of the first; say it."""
    first = next(iter(finished.values()))[0]
    split = first["split"]
    splits, _ = recipe.task.load(recipe.data)
    problem_type, names = recipe.task.labels(splits["train"])
    runs = [
        ModelRuns(
            name,
            metrics=[run["metrics"][split] for run in found],
            probabilities=[
                read_probabilities(root / f"{name}-seed{run['seed']}", split, names) for run in found
            ],
            thresholds=[run["thresholds"] for run in found],
            minutes=[run["minutes"] for run in found],
        )
        for name, found in finished.items()
    ]
    metrics = HEADLINE[problem_type]
    results = compare_runs(
        runs, gold_labels(splits[split], len(names)), problem_type, metrics, recipe.run.bootstrap
    )
    table = comparison_markdown(results, metrics, split)
    (root / "comparison.md").write_text(table + "\n", encoding="utf-8")
    folder = root / f"{recipe.model.architecture}-seed{first['seed']}"
    rows = {name: found for name, found in splits.items() if name in first["metrics"]}
    page = write_run_report(folder, rows, recipe.command, results)
    shutil.rmtree(root / CACHE_FOLDER, ignore_errors=True)
    return (
        f"\n{table}\n\nTable: {root / 'comparison.md'}\nModel, processor and card: {folder}\nReport: {page}"
    )
