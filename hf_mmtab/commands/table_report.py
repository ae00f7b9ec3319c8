"""The report and the model card of a run on a table: scored rows, and the histories behind the worst errors."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import yaml
from transformers import AutoConfig

from ..data.records import BadRecord
from ..data.windows import WindowDataset
from ..evaluation.comparison import ModelResult
from ..evaluation.decoded_histories import DecodedHistories
from ..evaluation.row_evaluation import headline
from ..evaluation.scored_rows import ScoredRows
from ..metrics import Interval
from ..model_card import write_model_card
from ..reports import RunFacts, SplitPredictions, write_report
from ..table_baselines import DESCRIPTIONS
from ..tasks import PreparedTable
from .console import versions
from .run_report import RECIPE_FILE, REPORT_FOLDER, RESULT_FILE
from .table_results import later_rows_note

_JUDGED = {
    "last": "the last row of {rows}",
    "any": "whether any row of {rows} is one",
    "every": "every row, in {rows}",
}
_MODELS = DESCRIPTIONS | {
    "lstm": "LSTM over TabBERT's row vectors",
    "mlp": "perceptron on TabBERT's vector of the window",
    "pooled": "linear on TabBERT's vector of the window",
    "raw_lstm": "LSTM on the cells, without pretraining",
}
_RESAMPLED = {"entity": "histories", "day": "days", "row": "rows"}


def write_table_report(
    folder: Path,
    table: PreparedTable,
    dataset: datasets.Dataset,
    windows: Mapping[str, WindowDataset],
    scored: Mapping[str, ScoredRows],
    command: str,
    comparison: Sequence[ModelResult] = (),
    others: Mapping[str, ScoredRows] | None = None,
) -> Path:
    """Write `report/report.html`, and beside a saved model its card `README.md`.

    Args:
        folder: of the run or evaluation: `results.json`, and as far as there `config.json`, `recipe.yaml`,
            `trainer_state.json`, `freeze_schedule.json`, `update_audit.jsonl`.
        table: encoded rows and the processor.
        dataset: the typed rows that were encoded, for showing histories.
        windows: split → the windows that the model read; at least those of `scored`.
        scored: split → its scores.
        command: that repeats the run.
        comparison: this model and others on the same rows.
        others: name → scores of another model on the rows of the main split, for the curves.

    Returns:
        The report's page.
    """
    facts = read_table_facts(folder, table, dataset, windows, scored, command, comparison, others)
    page = write_report(facts, folder / REPORT_FOLDER)
    if (folder / "model.safetensors").exists():
        recipe = folder / RECIPE_FILE
        values = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.exists() else {}
        write_model_card(facts, folder, license=values.get("license"))
    return page


def read_table_facts(
    folder: Path,
    table: PreparedTable,
    dataset: datasets.Dataset,
    windows: Mapping[str, WindowDataset],
    scored: Mapping[str, ScoredRows],
    command: str,
    comparison: Sequence[ModelResult] = (),
    others: Mapping[str, ScoredRows] | None = None,
) -> RunFacts:
    """Gather the facts of a run on a table; arguments as in `write_table_report`."""
    results = _read_json(folder / RESULT_FILE)
    own = folder if (folder / "config.json").exists() else results["checkpoint"]
    config: Any = AutoConfig.from_pretrained(own)
    split = results["split"]
    recipe, audit = folder / RECIPE_FILE, folder / "update_audit.jsonl"
    timeline = _read_json(folder / "freeze_schedule.json").get("timeline", [])
    wide = config.problem_type == "single_label_classification" and config.num_labels > 2
    main_metric = "macro_f1" if wide else headline(config.problem_type, config.num_labels)[0]
    plan, is_dated = table.processor.plan, _is_dated(dataset, table.processor.plan.time)
    has_encoder = "TabBertRawLstmForSequenceClassification" not in (config.architectures or [])
    return RunFacts(
        title=f"TabBERT ({results['architecture']}) on {Path(results['data']).name}",
        problem_type=config.problem_type,
        id2label=config.id2label,
        task=_task(config, plan.label, results),
        metrics=results["metrics"],
        intervals={
            part: {name: Interval(*found) for name, found in intervals.items()}
            for part, intervals in results["intervals"].items()
        },
        main_metric=main_metric,
        main_split=split,
        resampled=_RESAMPLED[results.get("resampled_by", "row")],
        thresholds=results["thresholds"],
        predictions={
            part: _predictions(
                rows, table, dataset, windows[part], is_dated, others or {} if part == split else {}
            )
            for part, rows in scored.items()
        },
        comparison=comparison,
        explained={one.name: _MODELS[one.name] for one in comparison if one.name in _MODELS},
        log_history=_read_json(folder / "trainer_state.json").get("log_history", []),
        freeze_timeline="\n".join(timeline) or None,
        audit_path=audit if audit.exists() else None,
        bad_records=Counter(f"{record['expected']} expected" for record in results["skipped"]),
        skipped=[str(BadRecord(**record)) for record in results["skipped"]],
        notes=[*results.get("notes", []), *later_rows_note(config, has_encoder)],
        command=command,
        recipe=recipe.read_text(encoding="utf-8") if recipe.exists() else None,
        duration=60 * results["minutes"],
        versions=versions(),
        details=results.get("details", {}),
    )


def _predictions(
    scored: ScoredRows,
    table: PreparedTable,
    dataset: datasets.Dataset,
    windows: WindowDataset,
    is_dated: bool,
    others: Mapping[str, ScoredRows],
) -> SplitPredictions:
    known = scored.labelled
    return SplitPredictions(
        known.probabilities,
        known.labels,
        DecodedHistories(dataset, table.rows, table.processor.plan, windows, known),
        known.times if is_dated else None,
        known.entities,
        {name: other.labelled.probabilities for name, other in others.items()},
    )


def _is_dated(dataset: datasets.Dataset, time: str | None) -> bool:
    """Whether the times of rows are dates, and not numbers that only order them."""
    if time is None:
        return False
    kind = getattr(dataset.features[time], "dtype", "")
    return kind.startswith(("timestamp", "date"))


def _task(config: Any, label: Sequence[str], results: Mapping[str, Any]) -> str:
    """Return the sentence under the title: what is predicted, of which rows."""
    names = ", ".join(config.id2label.values()) if config.problem_type == "regression" else ", ".join(label)
    seq_len = results.get("seq_len")
    rows = f"windows of up to {seq_len} rows" if seq_len else "windows"
    return f"Predicts {names}: judged is {_JUDGED[results.get('window_label') or 'last'].format(rows=rows)}."


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
