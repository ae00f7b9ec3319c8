"""`report RUN RUN … --out FOLDER`: finished runs beside each other, judged on the same rows.

The first run is the reference: each other one has its paired difference to it, with a 95 % interval. Runs whose folders
differ in `-seedN` alone are one model with several seeds.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from transformers import AutoConfig

from ..evaluation.comparison import ScoredModel, compare_scored
from ..evaluation.prediction_tables import read_probabilities
from ..evaluation.run_results import RunResults
from ..evaluation.scored_rows import ScoredRows
from ..locking import LOCK_FILE, lock_folder
from ..metrics.names import label_names
from ..publishing.run_files import FIGURES_FOLDER, PAGE_NAME, PUBLIC_PAGE_NAME
from ..reports import RunFacts, SplitPredictions, write_report
from .console import say, start_logging, versions
from .damaged_files import damage_named
from .flags import parse
from .outputs import check_output
from .runs.report import predictions_file

MARK = '<meta name="generator" content="hf_mmtab report">'
OWN = {PAGE_NAME, PUBLIC_PAGE_NAME, FIGURES_FOLDER, LOCK_FILE, f"{LOCK_FILE}.owner"}


def main(arguments: Sequence[str]) -> None:
    """Compare as the command line says."""
    start_logging()
    options = parse("report", arguments)
    folder = Path(options.out)
    check_output(options.out, options.runs)
    foreign = sorted({p.name for p in folder.iterdir()} - OWN) if folder.is_dir() else []
    page = folder / PAGE_NAME
    if page.is_file() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        foreign.append(PAGE_NAME)
    if foreign or folder.is_file():
        found = ", ".join(foreign[:3]) or "a file"
        raise ValueError(
            f"Expected --out to be a new folder or one of an earlier report, found {found} at {str(folder)!r}. Choose "
            "another one."
        )
    with damage_named(*options.runs):
        facts = compared_runs([Path(run) for run in options.runs], options.bootstrap)
    with lock_folder(folder, True, "--out"):
        page = write_report(facts, folder, examples=0)
    say(f"Report: {page}")


def compared_runs(folders: Sequence[Path], bootstrap: int) -> RunFacts:
    """Return what the page shows of several runs.

    Raises:
        ValueError: if a run is not finished, or was judged on other rows, labels or classes than the first one.
    """
    models: dict[str, list[ScoredModel]] = {}
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"Expected each run once, found {' '.join(map(str, folders))}: it would count as two seeds.")
    first, config = _finished(folders[0])
    for folder in folders:
        results, own = _finished(folder)
        if label_names(own) != label_names(config) or own.problem_type != config.problem_type:
            wanted, found = (", ".join(label_names(one)[:5]) for one in (config, own))
            raise ValueError(
                f"Expected in {str(folder)!r} the labels of {str(folders[0])!r} ({wanted}), found {found}. Compare "
                "runs of one task."
            )
        name = re.sub(r"-seed\d+$", "", folder.resolve().name)
        scored = read_scored(folder, first.split, own)
        models.setdefault(name, []).append(ScoredModel(scored, results.thresholds, results.minutes))
    compared = compare_scored(
        models,
        config.problem_type,
        config.id2label,
        first.resampled_by,  # type: ignore[arg-type]
        bootstrap,
        tuple(first.headline),
    )
    own, *others = models
    labelled = {name: seeds[0].rows.labelled for name, seeds in models.items()}
    shown = SplitPredictions(
        labelled[own].probabilities,
        labelled[own].labels,
        others={name: labelled[name].probabilities for name in others},
    )
    title = f"{own} beside {', '.join(others)}" if others else own
    return RunFacts(
        title,
        config.problem_type,
        config.id2label,
        results=RunResults(
            own,
            first.data,
            first.split,
            metrics={first.split: first.metrics[first.split]},
            intervals={name: one for name, one in first.intervals.items() if name == first.split},
            resampled_by=first.resampled_by,
            thresholds=first.thresholds,
        ),
        predictions={first.split: shown},
        comparison=compared,
        main_metric=first.headline[0],
        versions=versions(),
    )


def _finished(folder: Path) -> tuple[RunResults, Any]:
    """Return the results and the configuration of a finished run."""
    results = RunResults.read(folder) if folder.is_dir() else None
    if results is None or not results.headline:
        inside = sorted(path.parent.name for path in folder.glob("*/results.json"))
        hint = f" Folders in it that have one: {', '.join(inside)}." if inside else ""
        found = "no results.json of one" if results is None else "a pretraining, whose own report is in its folder"
        raise ValueError(f"Expected a finished fine-tuning run in {str(folder)!r}, found {found}.{hint}")
    return results, AutoConfig.from_pretrained(folder)


def read_scored(folder: Path, split: str, config: Any) -> ScoredRows:
    """Read what a run predicted for a split, of pictures with texts as rows of one history each.

    Raises:
        ValueError: if there are no predictions.
    """
    path = predictions_file(folder, split)
    if not path.is_file():
        raise ValueError(f"Expected the predictions of a finished run in {str(path)!r}, found none.")
    if "gold" not in pq.read_schema(path).names:
        return ScoredRows.load(path)
    names = label_names(config)
    scores = read_probabilities(path, names)
    gold = pq.read_table(path, columns=["gold"])["gold"].to_pylist()
    several = config.problem_type == "multi_label_classification"
    numbered = [[name in one for name in names] if several else names.index(one) for one in gold]
    labels = np.array(numbered, dtype=np.int64)
    if not several and len(names) == 2:
        scores = scores[:, 1]
    numbers = np.arange(len(gold))
    return ScoredRows(scores, labels, numbers, numbers.astype(str), np.zeros(len(gold), dtype="M8[us]"))
