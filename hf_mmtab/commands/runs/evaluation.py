"""The end of an evaluation of a saved model: closing words, report and results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...evaluation.judging import closing_words
from ...evaluation.run_results import RESULT_FILE, RunResults
from ...files import write_whole
from ...reports.page import PAGE_NAME
from .report import REPORT_FOLDER, common_facts, write_report_and_card


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
