"""The report and the model card of a run, from what lies in its folder; can be written anew at any time."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import yaml
from transformers import AutoConfig

from ..data.records import BadRecord
from ..evaluation.ablation import AblationRow
from ..evaluation.comparison import ModelResult
from ..evaluation.split_evaluation import label_names
from ..metrics import Interval
from ..model_card import write_model_card
from ..publishing.local_paths import LocalPaths
from ..reports import RunFacts, SplitPredictions, write_report
from .console import versions

RECIPE_FILE = "recipe.yaml"
RESULT_FILE = "results.json"
PREDICTIONS_FOLDER = "predictions"
REPORT_FOLDER = "report"
_TASK_WORDS = {
    "single_label_classification": "One of {labels} classes from {inputs}.",
    "multi_label_classification": "Any of {labels} labels from {inputs}.",
}


def write_run_report(
    folder: Path, rows: Mapping[str, datasets.Dataset], command: str, comparison: Sequence[ModelResult] = ()
) -> Path:
    """Write `report/report.html` and the model card `README.md` of a run or evaluation.

    Args:
        folder: of the run: config, `results.json`, `predictions/`, and as far as there `recipe.yaml`,
            `trainer_state.json`, `freeze_schedule.json`, `update_audit.jsonl`.
        rows: split → the rows that were predicted, for the examples.
        command: that repeats the run.
        comparison: this model and others on the same rows.

    Returns:
        The report's page.
    """
    facts = read_facts(folder, rows, command, comparison)
    page = write_report(facts, folder / REPORT_FOLDER)
    if (folder / "model.safetensors").exists():
        write_model_card(facts, folder, **_card_options(folder))
    return page


def read_facts(
    folder: Path, rows: Mapping[str, datasets.Dataset], command: str, comparison: Sequence[ModelResult] = ()
) -> RunFacts:
    """Gather the facts of a run from its folder."""
    results = _read_json(folder / RESULT_FILE)
    config: Any = AutoConfig.from_pretrained(
        folder if (folder / "config.json").exists() else results["checkpoint"]
    )
    recipe = folder / RECIPE_FILE
    audit = folder / "update_audit.jsonl"
    timeline = _read_json(folder / "freeze_schedule.json").get("timeline", [])
    inputs = " and ".join(results.get("inputs", [])) or "its inputs"
    return RunFacts(
        title=f"{results['architecture']} on {Path(results['data']).name}",
        problem_type=config.problem_type,
        id2label=config.id2label,
        task=_TASK_WORDS[config.problem_type].format(labels=config.num_labels, inputs=inputs),
        metrics=results["metrics"],
        intervals={
            split: {name: Interval(*found) for name, found in intervals.items()}
            for split, intervals in results["intervals"].items()
        },
        main_split=results["split"],
        thresholds=results["thresholds"],
        predictions={
            split: _read_predictions(folder, split, found, config, Path(results["data"]))
            for split, found in rows.items()
        },
        comparison=comparison,
        ablation=[AblationRow(**row) for row in results["ablation"]],
        log_history=_read_json(folder / "trainer_state.json").get("log_history", []),
        freeze_timeline="\n".join(timeline) or None,
        audit_path=audit if audit.exists() else None,
        bad_records=Counter(f"{record['expected']} expected" for record in results["skipped"]),
        skipped=[str(BadRecord(**record)) for record in results["skipped"]],
        command=command,
        recipe=recipe.read_text(encoding="utf-8") if recipe.exists() else None,
        duration=60 * results["minutes"],
        versions=versions(),
        details=results.get("details", {}),
    )


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_probabilities(folder: Path, split: str, names: Sequence[str]) -> np.ndarray:
    """Read the probabilities `(rows, num_labels)` that a run gave to a split."""
    table = pq.read_table(folder / PREDICTIONS_FOLDER / f"{split}.parquet")
    return np.stack([table[f"probability_{name}"].to_numpy() for name in names], axis=1)


def _read_predictions(
    folder: Path, split: str, rows: datasets.Dataset, config: Any, data: Path
) -> SplitPredictions:
    return SplitPredictions(
        probabilities=read_probabilities(folder, split, label_names(config)),
        labels=gold_labels(rows, config.num_labels),
        rows=rows,
        picture_folder=data if data.is_dir() else data.parent if data.is_file() else None,
    )


def gold_labels(rows: datasets.Dataset, num_labels: int) -> np.ndarray:
    """Return the labels of rows as `(rows,)` ids, or `(rows, num_labels)` of 0 and 1."""
    if "label" in rows.column_names:
        return np.asarray(rows["label"])
    several = np.zeros((len(rows), num_labels), dtype=np.int64)
    for index, present in enumerate(rows["labels"]):
        several[index, present] = 1
    return several


def _card_options(folder: Path) -> dict[str, Any]:
    recipe = (
        yaml.safe_load((folder / RECIPE_FILE).read_text(encoding="utf-8"))
        if (folder / RECIPE_FILE).exists()
        else {}
    )
    starts = [recipe.get(key) for key in ("text_model", "image_model")]
    paths = LocalPaths(recipe, folder)
    on_hub = [name for name in starts if name and paths.value("text_model", name) == name and ":" not in name]
    return {"license": recipe.get("license"), "base_models": on_hub}
