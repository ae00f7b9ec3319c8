"""`predict` for tables: a score for each row, or window, of a table that the model has never seen."""

import argparse
from typing import Any

import numpy as np
import pyarrow as pa

from ...data.windows.cutting import WindowDataset
from ...data.windows.encoded_rows import CountedIds, EncodedRows
from ...data.windows.window_index import DEFAULT_SEQ_LEN
from ...evaluation.drift import drift_notes, field_drift
from ...evaluation.scored_rows import JudgedRows
from ...metrics import decide, probabilities_from_logits
from ...metrics.names import label_names
from ...tasks.checkpoints import load_head
from ...tasks.saved_processor import open_processor
from ..console import say
from ..runs.shown_reasons import reasons_sentence, rows_to_explain, table_reasons
from ..runs.table_notes import warn_each
from .blocks import EncodedTable, WindowScorer, scored_table
from .ray_scoring import score_on_ray
from .window_blocks import Level, WindowCut, judged_values, run_windows


class RowScorer(WindowScorer):
    """A head, and the scores that it gives to rows or windows; see `Scorer`.

    Args:
        options: of the command line.

    Raises:
        ValueError: if the checkpoint has no head, or the level does not fit it.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        model = load_head(options.checkpoint)
        config = model.config
        # By itself a model judges windows if it was trained on the label of any row, else rows.
        self.level: Level = options.level or ("window" if config.window_label == "any" else "row")
        self.every = config.label_level == "row"
        if self.level == "window" and options.state is not None:
            raise ValueError("Expected --level row beside --state, which scores new rows, found window.")
        if self.level == "window" and self.every:
            raise ValueError(
                f"Expected --level row for {options.checkpoint!r}, which gives every row a score of its own, found "
                "window."
            )
        seq_len = config.seq_len or DEFAULT_SEQ_LEN
        cut = WindowCut(seq_len, self.level, self.every, config.max_gap, config.eval_stride)
        super().__init__(options, model, cut)

    def columns(self, table: EncodedTable, windows: WindowDataset, judged: JudgedRows) -> dict[str, pa.Array]:
        """Return keys, scores and reasons of the judged rows of some windows."""
        model, options = self.model, self.options
        batches = run_windows(
            lambda **inputs: model(**inputs).logits,
            windows,
            table.processor,
            options.batch_size,
            self.device,
            self.bf16,
        )
        pieces = [logits for logits, _ in batches]
        logits = judged_values(pieces, judged) if self.every else np.concatenate(pieces)
        columns: dict[str, pa.Array] = {}
        if self.level == "window":
            if table.processor.plan.time is not None:
                columns["first_time"] = table.times(windows.index.start)
            columns["rows"] = pa.array(windows.index.length)
        columns |= score_columns(logits, model.config)
        if options.explain:
            columns |= (reasons := table_reasons(options.explain, model, table, windows, judged, logits))
            self.told["explained"] += len(logits) - reasons["reason_1"].null_count
            self.told["chosen"] += len(rows_to_explain(logits, model.config))
        self.told["scores"] += len(logits)
        return table.beside_keys(judged.row, columns)


def predict_table(options: argparse.Namespace) -> tuple[int, int, int | None]:
    """Write a score for every row or window of the input; return how many, and how many rows were left out and used.

    Raises:
        ValueError: if the checkpoint has no head, or a table, a column or a level does not fit it.
    """
    scorer = RowScorer(options)  # on Ray too: what does not fit is told before the table is read
    if options.engine == "ray":
        found = score_on_ray(options, RowScorer, options.spreadsheet_safe)
        told, skipped = found.told, found.skipped
        _warn_of_drift(found.ids, open_processor(options.checkpoint))
    else:
        with scored_table(options, scorer, options.spreadsheet_safe) as table:
            new = None if not table.earlier else np.flatnonzero(table.numbers() >= table.earlier)
            _warn_of_drift(table.rows, table.processor, new)
        told, skipped = scorer.told, len(table.skipped)
    if options.explain:
        counts = told["explained"], told["chosen"], told["scores"]
        say(reasons_sentence(*counts, scorer.model.config, f"{scorer.level}s"))
    return told["scores"], skipped, told["scores"] if scorer.level == "row" else None


def _warn_of_drift(rows: EncodedRows | CountedIds, processor: Any, new: np.ndarray | None = None) -> None:
    notes = drift_notes(field_drift(rows, processor, new), rows, processor, "new rows", new)
    warn_each([*notes, *(["`hf-mmtab drift CHECKPOINT INPUT OUT.html` shows all fields."] if notes else [])])


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
