"""`eval_checkpoint CHECKPOINT DATA --split S --out DIR`: metrics, predictions, modality ablation, report.

Nothing is tuned on the data: thresholds are those saved in the checkpoint.
"""

import argparse
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoProcessor
from transformers.utils import cached_file, logging

from ..evaluation.row_evaluation import RESAMPLED
from ..evaluation.split_evaluation import evaluate_split, write_split_predictions
from ..recipes import read_recipe
from ..tasks import ImageTextTask, get_task, place_convolutions
from ..training import MMTabTrainer, MMTabTrainingArguments
from ..training.precision import in_bf16, precision_flags
from .console import say, start_logging
from .eval_table import evaluate_table
from .finetune_image_text import ablate_modalities, summarise
from .run_report import PREDICTIONS_FOLDER, RECIPE_FILE, RESULT_FILE, write_run_report
from .table_blocks import current_device, is_table_checkpoint

logger = logging.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a saved model as the command line says."""
    start_logging()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    command = f"python -m hf_mmtab eval_checkpoint {shlex.join(given)}"
    if is_table_checkpoint(options.checkpoint):
        results = evaluate_table(options, command)
    else:
        results = evaluate_checkpoint(options, command)
    say(results["summary"], results["speaks"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hf_mmtab eval_checkpoint", description=__doc__)
    parser.add_argument("checkpoint", help="folder or Hub name of a model saved with its processor")
    parser.add_argument("data", help="folder or file of the data, sample:openclipart or simulated:cards")
    parser.add_argument(
        "--split", default="test", help="train, validation, test, …, or all records of a file; default: test"
    )
    parser.add_argument("--out", required=True, help="folder for metrics, predictions and report")
    parser.add_argument("--task", help="default: that of the checkpoint's recipe, else image_text")
    parser.add_argument("--batch_size", type=int, default=32, help="per device; default: 32")
    parser.add_argument(
        "--num_workers", type=int, default=0, help="processes that decode pictures; default: 0"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the intervals; 0: none")
    parser.add_argument(
        "--resample_by",
        choices=RESAMPLED,
        default="auto",
        help="what the intervals of a table draw; default: auto",
    )
    precision_flags(parser)
    parser.add_argument("--no_ablation", action="store_true", help="do not blank and shuffle the inputs")
    for name in ("image", "text", "text_pair", "label"):
        parser.add_argument(f"--{name}_column", help="default: as the recipe says, else found by its name")
    parser.add_argument("--allow_empty_text", action="store_true", help="keep records without a text")
    parser.add_argument("--on_bad_record", choices=["raise", "skip"], default="raise")
    return parser


def load_checkpoint(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """Load a model with its processor, and the recipe beside it (empty if there is none).

    Raises:
        ValueError: if the folder holds no processor of ours.
    """
    model = AutoModelForSequenceClassification.from_pretrained(name)
    processor = AutoProcessor.from_pretrained(name)
    if not hasattr(processor, "encode_row"):
        raise ValueError(
            f"Expected the processor of a picture-and-text model in {name!r}, found {type(processor).__name__}. "
            "Save the processor beside the model: `processor.save_pretrained(folder)`."
        )
    recipe = cached_file(name, RECIPE_FILE, _raise_exceptions_for_missing_entries=False)
    return place_convolutions(model), processor, read_recipe(recipe) if recipe else {}


def evaluate_checkpoint(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Evaluate one split of a data set; return what `results.json` holds."""
    started = time.time()
    model, processor, recipe = load_checkpoint(options.checkpoint)
    task = get_task(options.task or recipe.get("task", "image_text"), ImageTextTask)
    keys = [f"{name}_column" for name in ("image", "text", "text_pair", "label")]
    columns: dict[str, Any] = {key: getattr(options, key) or recipe.get(key) for key in keys}
    data = task.data_arguments(
        task=task.name,
        data=options.data,
        on_bad_record=options.on_bad_record,
        label_separator=recipe.get("label_separator"),
        allow_empty_text=options.allow_empty_text or recipe.get("allow_empty_text", False),
        split_seed=recipe.get("split_seed", 0),
        **columns,
    )
    rows, skipped = task.load_split(data, options.split, model.config)

    arguments = MMTabTrainingArguments(
        output_dir=options.out,
        per_device_eval_batch_size=options.batch_size,
        dataloader_num_workers=options.num_workers,
        precision="fp32",  # of the weights
        channels_last=True,
        bf16_full_eval=in_bf16(options, model, current_device()),
        report_to="none",
    )
    collator = task.collator(data, processor, model.config.num_labels)
    trainer = MMTabTrainer(model=model, args=arguments, data_collator=collator)
    result = evaluate_split(
        trainer, task.encode(rows, processor), options.split, model.config, options.bootstrap
    )
    ablation = []
    if not options.no_ablation:
        ablation = ablate_modalities(task, trainer, rows, processor, result)

    folder = Path(options.out)
    minutes = (time.time() - started) / 60
    found = {
        "checkpoint": options.checkpoint,
        "architecture": getattr(model.config, "baseline", model.config.model_type),
        "data": options.data,
        "inputs": list(task.modalities(rows)),
        "minutes": minutes,
        "split": options.split,
        "thresholds": getattr(model.config, "thresholds", None),
        "metrics": {options.split: result.metrics},
        "intervals": {options.split: {name: dataclasses.astuple(i) for name, i in result.intervals.items()}},
        "ablation": [dataclasses.asdict(row) for row in ablation],
        "skipped": [record.to_dict() for record in skipped],
        "summary": summarise(folder, result, ablation, model.config.problem_type, minutes),
    }
    if trainer.is_world_process_zero():
        folder.mkdir(parents=True, exist_ok=True)
        write_split_predictions(
            folder / PREDICTIONS_FOLDER / f"{options.split}.parquet", rows, result, model.config
        )
        (folder / RESULT_FILE).write_text(json.dumps(found, indent=1), encoding="utf-8")
        write_run_report(folder, {options.split: rows}, command)
    return found | {"speaks": trainer.is_world_process_zero()}
