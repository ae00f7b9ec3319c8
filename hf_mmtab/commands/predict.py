"""`predict CHECKPOINT INPUT OUT`: labels and probabilities of new rows.

Pictures with texts: beside the input's own columns, in its order. Tables: beside the history, the time and the number
of the row, in the order of histories and time (see `predict_table`). Rows are read, decided and written in pieces.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import DataLoader, Subset
from transformers.utils import logging

from ..data.image_text_loading import as_categories, read_image_text
from ..evaluation.prediction_tables import batches, prediction_table
from ..explaining.explanation import Explanation
from ..explaining.gradients import import_captum
from ..explaining.image_text import explain_image_text
from ..explaining.reason_columns import reason_columns
from ..metrics import decide, probabilities_from_logits
from ..metrics.names import label_names
from ..models.mmbt import MMBTCollator
from ..models.mmbt.text_encoding_mmbt import texts_of
from ..progress import progress_bar
from ..tasks import ImageTextTask, get_task
from ..tasks.checkpoints import is_table_checkpoint, saved_config
from ..tasks.fitted_lengths import further_pictures_note
from ..tasks.image_text import columns_beside
from ..training import MMTabTrainer
from .console import counted, left_out, say, start_logging
from .damaged_files import damage_named
from .eval_checkpoint import load_checkpoint
from .flags import COLUMNS, parse
from .outputs import check_new_folder, check_output_file, check_state, draft_of
from .scoring_flags import check_flags, evaluation_arguments, in_bf16, is_folder
from .tables.predicting import predict_table
from .tables.window_blocks import current_device
from .tables.writer import check_suffix, table_writer

logger = logging.get_logger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Predict as the command line says."""
    start_logging()
    options = parse("predict", arguments)
    inputs = [options.input, options.checkpoint]
    if is_folder(options):
        check_new_folder(options.out, inputs)
    else:
        check_suffix(Path(options.out))
        labels = []
        if Path(options.out).is_file():  # which only predictions of this model may be
            with damage_named(options.checkpoint):
                labels = label_names(saved_config(options.checkpoint))
        check_output_file(options.out, inputs, labels)
    if options.state is not None:
        check_state(options.state, options.out, inputs)
    if options.explain:
        import_captum()
    with damage_named(options.checkpoint):
        check_flags(options, inputs)
        judge = predict_table if is_table_checkpoint(options.checkpoint) else predict
        if options.engine == "ray" and (judge is predict or options.state is not None):
            found = "a model of pictures and texts" if judge is predict else "--state"
            raise ValueError(f"Expected a whole table beside --engine ray, found {found}. Take --engine local.")
        count, skipped, used = judge(options)
    say(f"{counted(count, 'prediction', 'predictions')} in {options.out}{left_out(skipped, used)}")


def predict(options: argparse.Namespace) -> tuple[int, int, int]:
    """Write predictions for every row of the input; return how many, how many records were left out, and used.

    Raises:
        ValueError: if the input has not what the model reads.
    """
    out = Path(options.out)
    model, processor, recipe = load_checkpoint(options.checkpoint)
    keys = [*(f"{name}_column" for name in COLUMNS), "separator"]
    columns = {key: getattr(options, key) or recipe.get(key) for key in keys}
    given: dict[str, Any] = {key: value for key, value in columns.items() if value is not None}
    given["missing"] = tuple(recipe.get("missing") or ())
    given["allow_empty_text"] = options.allow_empty_text or recipe.get("allow_empty_text", False)
    given |= columns_beside(model.config)
    found = read_image_text(options.input, on_bad_record=options.on_bad_record, **given)
    rows = found.rows
    _warn_of_broken_texts(rows, found.own_columns)
    task = get_task(options.task or recipe.get("task", "image_text"), ImageTextTask)
    encoded = task.encode(rows, processor)
    if note := further_pictures_note({"given": rows}, processor.max_images):
        logger.warning(note)
    collator = MMBTCollator(processor, num_labels=model.config.num_labels)
    read, collate = _stored(options, model, encoded, collator)
    device = current_device()
    model = model.to(device).eval()
    bf16 = in_bf16(options, model, device)

    mixed = {[*found.own_columns].index(name): kind for name, kind in found.mixed.items()}
    with (
        draft_of(out) as draft,
        progress_bar(total=len(rows), unit=" rows", desc="Predicting") as progress,
        progress_bar(total=len(rows), unit=" rows", desc="Explaining", disable=not options.explain) as explaining,
        table_writer(draft / out.name, out.suffix, options.spreadsheet_safe, mixed) as write,
    ):
        for piece in batches(len(rows)):
            loaded = {"batch_size": options.batch_size, "num_workers": options.num_workers}
            loader = DataLoader(Subset(read, piece), collate_fn=collate, **loaded)
            logits = []
            for batch in loader:
                batch.pop("labels", None)
                with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    logits.append(model(**{k: v.to(device) for k, v in batch.items()}).logits.float().cpu())
                progress.update(len(logits[-1]))
            probabilities = probabilities_from_logits(torch.cat(logits).numpy(), model.config.problem_type)
            more = reason_columns([], options.explain) if options.explain else ()
            table = prediction_table(rows.select(piece), probabilities, model.config, found.own_columns, more)
            for name, given in found.categories.items():
                place = [*found.own_columns].index(name)
                table = table.set_column(place, table.column_names[place], as_categories(table.column(place), given))
            if options.explain:
                reasons = []
                for i, label in zip(piece, explained_labels(probabilities, model.config), strict=True):
                    reasons.append(_explained(model, processor, encoded.rows[i], collator([encoded[i]]), label))
                    explaining.update()
                for name, column in reason_columns(reasons, options.explain).items():
                    table = table.append_column(name, column)
            write(table)
    return len(rows), len(found.skipped), len(rows)


def _warn_of_broken_texts(rows: Any, own: Mapping[str, str]) -> None:
    """Say which of the input's columns, read by no model, come out with U+FFFD in place of what is no UTF-8."""
    for name, given in own.items():
        texts = rows.data.column(name)
        is_text = pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)
        count = pc.sum(pc.match_substring(texts, "\ufffd")).as_py() if is_text else None
        if count:
            told = f"{count} text{'s' * (count > 1)} of column {given!r}, which the model does not read"
            logger.warning(f"{told}: no UTF-8; broken letters are written as U+FFFD.")


def _stored(options: argparse.Namespace, model: Any, rows: Any, collator: MMBTCollator) -> tuple[Any, Any]:
    """Return rows with the features of their pictures and what collates them; as they are without a store."""
    if options.feature_cache_dir is None:
        return rows, collator
    kept = options.feature_cache_dir
    arguments = evaluation_arguments(options, model, output_dir=kept, feature_cache_dir=kept)
    loader = MMTabTrainer(model=model, args=arguments, data_collator=collator).get_test_dataloader(rows)
    return loader.dataset, loader.collate_fn


def explained_labels(probabilities: np.ndarray, config: Any) -> list[int]:
    """Return the label of each row whose score is explained: the predicted one, of several the likeliest of these."""
    decided = decide(probabilities, config.problem_type, getattr(config, "thresholds", None))
    return (decided if decided.ndim == 1 else (decided + probabilities).argmax(axis=1)).tolist()


def _explained(model: Any, processor: Any, row: dict[str, Any], batch: dict[str, Any], label: int) -> Explanation:
    texts, pairs = ([], None) if processor.tokenizer is None else texts_of(row)
    inputs = {name: value.to(model.device) for name, value in batch.items()}
    return explain_image_text(model, processor.tokenizer, inputs, [*texts, *(pairs or [])], label)
