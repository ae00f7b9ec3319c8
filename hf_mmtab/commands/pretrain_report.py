"""The report and the model card of a pretraining run, from what lies in its folder."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..data.records import BadRecord
from ..evaluation.cell_baselines import FieldScore
from ..evaluation.cell_errors import CellError
from ..evaluation.decoded_histories import HistoryTable
from ..model_card import write_model_card
from ..reports import RunFacts, write_report
from ..reports.facts import MASKED_LM
from .console import versions
from .run_report import RECIPE_FILE, REPORT_FOLDER, RESULT_FILE


def write_pretraining_report(folder: Path, command: str, license: str | None = None) -> Path:
    """Write `report/report.html` and the model card `README.md`.

    Args:
        folder: of a finished run.
        command: that repeats it.
        license: named in the card.

    Returns:
        The report's page.
    """
    facts = read_pretraining_facts(folder, command)
    page = write_report(facts, folder / REPORT_FOLDER)
    write_model_card(facts, folder, license=license)
    return page


def read_pretraining_facts(folder: Path, command: str) -> RunFacts:
    """Gather the facts of a pretraining run from its folder."""
    results = _read_json(folder / RESULT_FILE)
    split = results["split"]
    fields = [FieldScore(**score) for score in results["fields"][split]]
    audit = folder / "update_audit.jsonl"
    beaten = sum(score.lead > 0 for score in fields)
    return RunFacts(
        title=f"TabBERT pretrained on {Path(results['data']).name}",
        problem_type=MASKED_LM,
        id2label={},
        task=f"{_what(folder)} of {len(fields)} fields; in {beaten} of them better than both guesses "
        "that need no model.",
        metrics={name: _overall(scores) for name, scores in results["metrics"].items()},
        main_split=split,
        fields=fields,
        cell_errors=[_cell_error(error) for error in results.get("cell_errors", [])],
        log_history=_read_json(folder / "trainer_state.json").get("log_history", []),
        freeze_timeline="\n".join(_read_json(folder / "freeze_schedule.json").get("timeline", [])) or None,
        audit_path=audit if audit.exists() else None,
        bad_records=Counter(f"{record['expected']} expected" for record in results["skipped"]),
        skipped=[str(BadRecord(**record)) for record in results["skipped"]],
        notes=results["notes"],
        command=command,
        recipe=(folder / RECIPE_FILE).read_text(encoding="utf-8"),
        duration=60 * results["minutes"],
        versions=versions(),
        details=results["details"],
    )


def _what(folder: Path) -> str:
    """Say what the model was trained to find."""
    next_row = _read_json(folder / "config.json").get("next_row")
    return "Predicts the cells of the next row" if next_row else "Recovers masked cells"


def _cell_error(saved: dict[str, Any]) -> CellError:
    return CellError(**saved | {"history": HistoryTable(**saved["history"])})


def _overall(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if "/" not in name}


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
