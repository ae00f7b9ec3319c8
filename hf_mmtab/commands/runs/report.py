"""The report and the model card of a run or an evaluation, from its results and what lies in its folder."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from ...evaluation.judging import closing_words
from ...evaluation.run_results import RESULT_FILE, RunResults
from ...files import read_json, write_whole
from ...model_card import write_model_card
from ...publishing.run_files import CARD_NAME, PAGE_NAME
from ...reports import RunFacts, write_report
from ...tasks.checkpoints import RECIPE_FILE
from ...training.collapse import PUT_BACK
from ..console import versions

_REMEDY = "Delete that file: the report is written without it."
PREDICTIONS_FOLDER, REPORT_FOLDER = "predictions", "report"


def common_facts(folder: Path, results: RunResults, command: str, own: Mapping[str, Any]) -> RunFacts:
    """Gather the facts that every run or evaluation has.

    Args:
        folder: of the run, with as far as there `recipe.yaml`, `trainer_state.json`, `freeze_schedule.json` and
            `update_audit.jsonl`.
        results: of the run.
        command: that repeats it.
        own: fields of `RunFacts` of this kind of run; they go before those gathered here.
    """
    recipe, audit = folder / RECIPE_FILE, folder / "update_audit.jsonl"
    timeline = read_json(folder / "freeze_schedule.json", _REMEDY).get("timeline", [])
    state = read_json(folder / "trainer_state.json", _REMEDY)
    written = recipe.read_text(encoding="utf-8") if recipe.exists() else None
    keeps_best = written is not None and bool((yaml.safe_load(written) or {}).get("load_best_model_at_end"))
    history = state.get("log_history", [])
    kept_step = state.get("best_global_step") if keeps_best else None
    gathered: dict[str, Any] = {
        "results": results,
        "log_history": history,
        "kept_step": 0 if any(PUT_BACK in entry for entry in history) else kept_step,
        "freeze_timeline": "\n".join(timeline) or None,
        "audit_path": audit if audit.exists() else None,
        "bad_records": Counter(f"{record.expected} expected" for record in results.skipped),
        "command": command,
        "recipe": written,
        "versions": versions(),
    }
    return RunFacts(**{**gathered, **own})


def write_report_and_card(
    facts: RunFacts, folder: Path, wanted: Collection[str] = (PAGE_NAME, CARD_NAME), **card_options: Any
) -> Path:
    """Write `report/report.html`, and beside a saved model its card `README.md`; return the page."""
    if PAGE_NAME in wanted:
        write_report(facts, folder / REPORT_FOLDER)
    if CARD_NAME in wanted and (folder / "model.safetensors").exists():
        write_model_card(facts, folder, **card_options)
    return folder / REPORT_FOLDER / PAGE_NAME


def predictions_file(folder: Path, split: str) -> Path:
    """Return where the predictions for a split lie."""
    return folder / PREDICTIONS_FOLDER / f"{split}.parquet"


def finish_evaluation(folder: Path, results: RunResults, command: str, own: Mapping[str, Any]) -> None:
    """Write the report, and last `results.json`.

    Args:
        folder: of the evaluation.
        results: their summary is set.
        command: that repeats the evaluation.
        own: fields of `RunFacts` of this kind of data.
    """
    lines = [*closing_words(results), f"Report: {folder / REPORT_FOLDER / PAGE_NAME}"]
    results.summary = "\n".join(lines)
    write_report_and_card(common_facts(folder, results, command, own), folder)
    write_whole(folder / RESULT_FILE, results.to_json())
