"""`predict` for tables: a score for each row, or window, of a table that the model has never seen."""

import argparse
from typing import Any

import numpy as np
import pyarrow as pa

from ...data.window_index import DEFAULT_SEQ_LEN
from ...evaluation.drift import drift_notes, field_drift
from ...metrics import decide, probabilities_from_logits
from ...metrics.names import label_names
from ...tasks.checkpoints import load_head
from ..console import say
from ..runs.table_notes import warn_each
from ..scoring_flags import in_bf16
from .blocks import scoring_into
from .reasons import reasons_sentence, rows_to_explain, table_reasons
from .window_blocks import Level, WindowCut, current_device, run_windows


def default_level(config: Any) -> Level:
    """Return what a model judges by itself: windows if it was trained on the label of any row, else rows."""
    return "window" if config.window_label == "any" else "row"


def predict_table(options: argparse.Namespace) -> tuple[int, int]:
    """Write a score for every row or window of the input; return how many, and how many rows were left out.

    Raises:
        ValueError: if the checkpoint has no head, or a table, a column or a level does not fit it.
    """
    model = load_head(options.checkpoint)
    config = model.config
    level = options.level or default_level(config)
    every = config.label_level == "row"
    if level == "window" and options.state is not None:
        raise ValueError("Expected --level row beside --state, which scores new rows, found window.")
    if level == "window" and every:
        raise ValueError(
            f"Expected --level row for {options.checkpoint!r}, which gives every row a score of its own, found window."
        )
    cut = WindowCut(config.seq_len or DEFAULT_SEQ_LEN, level, every, config.max_gap, config.eval_stride)
    device = current_device()
    model = model.to(device).eval()
    bf16 = in_bf16(options, model, device)
    count = explained = chosen = 0
    with scoring_into(options, model, cut, options.spreadsheet_safe) as (table, blocks, write):
        for windows, judged in blocks:
            batches = run_windows(
                lambda **inputs: model(**inputs).logits, windows, table.processor, options.batch_size, device, bf16
            )
            pieces = [logits for logits, _ in batches]
            logits = judged_logits(pieces, judged.window, judged.place) if every else np.concatenate(pieces)
            columns = table.keys(judged.row)
            if level == "window":
                if table.processor.plan.time is not None:
                    columns["first_time"] = table.times(windows.index.start)
                columns["rows"] = pa.array(windows.index.length)
            columns |= score_columns(logits, config)
            if options.explain:
                columns |= (reasons := table_reasons(options.explain, model, table, windows, judged, logits))
                explained += len(logits) - reasons["reason_1"].null_count
                chosen += len(rows_to_explain(logits, config))
            write(columns)
            count += len(logits)
        new = None if not table.earlier else np.flatnonzero(table.numbers() >= table.earlier)
        moved = field_drift(table.rows, table.processor, new)
        notes = drift_notes(moved, table.rows, table.processor, "new rows")
        warn_each([*notes, *(["`hf-mmtab drift CHECKPOINT INPUT OUT.html` shows all fields."] if notes else [])])
    if options.explain:
        say(reasons_sentence(explained, chosen, count, config, f"{level}s"))
    return count, len(table.skipped)


def judged_logits(pieces: list[Any], window: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the logits of judged rows `(n, num_labels)` from batches `(batch, rows, num_labels)` of any length."""
    starts = np.cumsum([0, *(len(piece) for piece in pieces)])
    batch = np.searchsorted(starts, window, side="right") - 1
    found = np.empty((len(window), pieces[0].shape[-1]), dtype=np.float32)
    for number, piece in enumerate(pieces):
        mine = batch == number
        found[mine] = piece.numpy()[window[mine] - starts[number], place[mine]]
    return found


def score_columns(logits: np.ndarray, config: Any) -> dict[str, pa.Array]:
    """Return `prediction` and `probability_NAME` of every class, or `predicted_NAME` of every target.

    Args:
        logits: `(n, num_labels)`.
        config: names the labels, and holds the threshold of two classes.
    """
    names, values = label_names(config), probabilities_from_logits(logits, config.problem_type)
    if config.problem_type == "regression":
        return {f"predicted_{name}": pa.array(values[:, i].astype(np.float32)) for i, name in enumerate(names)}
    decided = decide(values, config.problem_type, config.threshold)
    columns = {"prediction": pa.array([names[number] for number in decided])}
    return columns | {f"probability_{name}": pa.array(values[:, i].astype(np.float32)) for i, name in enumerate(names)}
