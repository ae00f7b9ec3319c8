"""What the report of a run on a table says: scored rows, and the histories behind the worst errors."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from ...data.windows.cutting import WindowDataset
from ...evaluation.decoded_histories import DecodedHistories, HistoriesOfIds
from ...evaluation.judging import DESCRIPTION, MAJORITY
from ...evaluation.row_evaluation import headline
from ...evaluation.run_results import RunResults
from ...evaluation.scored_rows import ScoredRows
from ...models.tabbert.processing.column_plan import ColumnPlan
from ...models.tabbert.processing.values import column, numbers
from ...reports import SplitPredictions
from ...table_baselines import DESCRIPTIONS
from ...tasks import PreparedTable
from ...tasks.table_heads import HEADS, WITHOUT_ENCODER
from .shown_reasons import of_table
from .table_notes import later_rows_note

_JUDGED = {"last": "the last row of {rows}", "any": "whether any row of {rows} is one", "every": "every row, in {rows}"}
MODELS = DESCRIPTIONS | {
    MAJORITY: DESCRIPTION,
    "lstm": "LSTM over TabBERT's row vectors",
    "mlp": "perceptron on TabBERT's vector of the window",
    "pooled": "linear on TabBERT's vector of the window",
    "raw_lstm": "LSTM on the cells, without pretraining",
    "boosted": "LightGBM on statistics of the past, saved as a model",
    "fusion": "LSTM over TabBERT's row vectors and LightGBM on statistics of the past, joined",
}


def table_facts(
    results: RunResults,
    config: Any,
    table: PreparedTable,
    windows: Mapping[str, WindowDataset],
    scored: Mapping[str, ScoredRows],
    others: Mapping[str, ScoredRows] | None = None,
    explained: str | None = None,
) -> dict[str, Any]:
    """Return the fields of `RunFacts` that are those of a table.

    Args:
        results: of the run or evaluation.
        config: of the model.
        table: encoded rows, the processor, and the typed rows for showing histories.
        windows: split → the windows that the model read; at least those of `scored`.
        scored: split → its scores.
        others: name → scores of another model on the rows of the main split, for the curves.
        explained: folder of the model, for the reasons of single rows; None: they are not shown.
    """
    wide = config.problem_type == "single_label_classification" and config.num_labels > 2
    main_metric = "macro_f1" if wide else headline(config.problem_type, config.num_labels)[0]
    has_encoder = not {HEADS[name].__name__ for name in WITHOUT_ENCODER} & set(config.architectures or [])
    predicted = config.id2label.values() if config.problem_type == "regression" else table.label_columns
    rows = f"windows of up to {results.seq_len} rows" if results.seq_len else "windows"
    judged = _JUDGED[results.window_label or "last"].format(rows=rows)
    if results.architecture == "boosted" and results.window_label == "every":
        judged = "every row, by statistics of all rows before it"
    main_others = {name: other.labelled.probabilities for name, other in (others or {}).items()}
    return {
        "title": f"TabBERT ({results.architecture}) on {Path(results.data).name}",
        "problem_type": config.problem_type,
        "id2label": config.id2label,
        "task": f"Predicts {', '.join(predicted)}: judged is {judged}.",
        "main_metric": main_metric,
        "predictions": {
            split: _predictions(one, table, windows[split], main_others if split == results.split else {}, explained)
            for split, one in scored.items()
        },
        "explained": MODELS,
        "results": replace(results, notes=[*results.notes, *later_rows_note(config, has_encoder)]),
    }


def _predictions(
    scored: ScoredRows, table: PreparedTable, windows: WindowDataset, others: Mapping[str, Any], explained: str | None
) -> SplitPredictions:
    known, plan, rows = scored.labelled, table.processor.plan, table.rows
    if table.values is None:
        histories: DecodedHistories = HistoriesOfIds(table.processor, rows, windows, known, table.label_columns)
        explained = None  # reasons are told with the values as they were read
    else:
        histories = DecodedHistories(table.values, rows, plan, windows, known, table.label_columns)
    return SplitPredictions(
        known.probabilities,
        known.labels,
        histories,
        known.times if _is_dated(table.values, plan) else None,
        known.entities,
        others,
        amounts=_amounts(known, table),
        explain=None if explained is None else of_table(explained, table.processor, histories),
    )


def _amounts(known: ScoredRows, table: PreparedTable) -> np.ndarray | None:
    """Return the first amount of money of each scored row, `(rows,)`; None if the plan has none, or rows are ids."""
    plan, numbered = table.processor.plan, table.rows.row_numbers
    found = next((field for field in plan.fields if field.kind == "money"), None)
    if found is None or table.values is None:
        return None
    source = str(plan.source(found))
    places = known.rows if numbered is None else np.asarray(numbered)[known.rows]
    rows = table.values.select_columns([source]).with_format("arrow").select(places)
    return numbers(column(rows[:], source), source)


def _is_dated(dataset: datasets.Dataset | None, plan: ColumnPlan) -> bool:
    """Whether the times of rows are dates, and not numbers that only order them."""
    if plan.time is None:
        return False
    if dataset is None:
        return plan.time_unit != "number"
    kind = getattr(dataset.features[plan.time], "dtype", "")
    return kind.startswith(("timestamp", "date")) or plan.time_unit not in (None, "number")
