"""`eval_checkpoint CHECKPOINT DATA --split S --out DIR`: metrics, predictions, modality ablation, report.

Nothing is tuned on the data: thresholds are those saved in the checkpoint.
"""

import argparse
import shlex
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import AutoProcessor
from transformers.utils import logging

from ..arguments import ImageTextDataArguments
from ..data.reading.records import many_left_out
from ..evaluation.prediction_tables import write_split_predictions
from ..evaluation.run_results import RunResults
from ..locking import lock_folder
from ..recipes import build
from ..tasks import ImageTextTask, get_task, place_convolutions
from ..tasks.checkpoints import is_table_checkpoint, load_classifier, recipe_of
from ..tasks.fitted_lengths import further_pictures_note
from ..training import MMTabTrainer
from .console import rank, say, start_logging
from .damaged_files import damage_named
from .flags import COLUMNS, parse
from .outputs import check_output_folder
from .runs.image_text import ablate_modalities, image_text_facts, judge_image_text, predict_rows
from .runs.inventory import EVALUATION, begin_inventory, files_listed
from .runs.report import finish_evaluation, predictions_file
from .scoring_flags import check_flags, evaluation_arguments
from .tables.evaluating import evaluate_table

logger = logging.get_logger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Evaluate a saved model as the command line says."""
    start_logging()
    options = parse("eval_checkpoint", arguments)
    command = f"python -m hf_mmtab eval_checkpoint {shlex.join(arguments)}"
    check_output_folder(options.out, [options.data, options.checkpoint])
    with damage_named(options.checkpoint):
        check_flags(options, [options.data, options.checkpoint])
    out, is_main_process = Path(options.out), rank() == 0
    with (
        lock_folder(out, is_main_process, "--out"),
        damage_named(options.checkpoint),
        files_listed(out, is_main_process),
    ):
        if is_main_process:
            begin_inventory(out, (), writes=list(EVALUATION))
        evaluate = evaluate_table if is_table_checkpoint(options.checkpoint) else evaluate_checkpoint
        results = evaluate(options, command)
    say(results.summary, bool(results.summary))  # empty on all processes but the first


def load_checkpoint(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """Load a model with its processor, and the recipe beside it (empty if there is none).

    Raises:
        ValueError: if the folder holds no processor of ours.
    """
    model = load_classifier(name)
    processor = AutoProcessor.from_pretrained(name)
    if not hasattr(processor, "encode_row"):
        raise ValueError(
            f"Expected the processor of a picture-and-text model in {name!r}, found {type(processor).__name__}. "
            "Save the processor beside the model: `processor.save_pretrained(folder)`."
        )
    return place_convolutions(model), processor, recipe_of(name)


def evaluate_checkpoint(options: argparse.Namespace, command: str) -> RunResults:
    """Evaluate one split of pictures with texts."""
    started = time.time()
    model, processor, recipe = load_checkpoint(options.checkpoint)
    config, split, folder = model.config, options.split, Path(options.out)
    task = get_task(options.task or recipe.get("task", "image_text"), ImageTextTask)
    given = {f"{name}_column": getattr(options, f"{name}_column") for name in (*COLUMNS, "label")}
    given["separator"] = options.separator
    values = {**recipe, **{key: value for key, value in given.items() if value is not None}}
    values |= {"task": task.name, "data": options.data, "max_rows": None}
    values["on_bad_record"] = options.on_bad_record
    values |= {"allow_empty_text": True} if options.allow_empty_text else {}
    data: ImageTextDataArguments = build([ImageTextDataArguments], values, of_finished=True)[0]
    rows, skipped = task.load_split(data, split, config)
    note = further_pictures_note({split: rows}, processor.max_images)
    if note is not None:
        logger.warning(note)

    arguments = evaluation_arguments(options, model, channels_last=True)
    collator = task.collator(data, processor, config.num_labels)
    kept = options.feature_cache_dir
    # The ablation goes through every picture again, as does the next call on the same pictures.
    with tempfile.TemporaryDirectory() if kept is None else nullcontext(kept) as features:
        arguments.feature_cache_dir = None if options.no_ablation and kept is None else features
        trainer = MMTabTrainer(model=model, args=arguments, data_collator=collator)
        scored = {split: predict_rows(trainer, task, rows, processor)}
        judged = judge_image_text(scored, config, split, options.bootstrap)
        if not options.no_ablation:
            judged["ablation"] = ablate_modalities(task, trainer, rows, processor, judged["metrics"][split])
    results = RunResults(
        **judged,
        checkpoint=options.checkpoint,
        architecture=getattr(config, "baseline", config.model_type),
        data=options.data,
        inputs=list(task.modalities(rows)),
        skipped=skipped,
        left_out=many_left_out(skipped, {split: len(rows)}),
        notes=[] if note is None else [note],
        details={"computed in": "bfloat16" if arguments.bf16_full_eval else "float32"},
        minutes=(time.time() - started) / 60,
    )
    if trainer.is_world_process_zero():
        write_split_predictions(predictions_file(folder, split), rows, scored[split], config)
        explained = options.checkpoint if options.reasons and not hasattr(model, "members") else None
        own = image_text_facts(results, config, scored, {split: rows}, explained)
        finish_evaluation(folder, results, command, own)
    return results
