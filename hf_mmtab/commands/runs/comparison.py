"""Several runs of one recipe, and baselines, on the same rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers.utils import logging

from ...evaluation.comparison import ScoredModel, compare_scored, comparison_markdown, lead_sentences
from ...evaluation.judging import MAJORITY
from ...evaluation.run_results import RunResults
from ...files import write_whole
from ...publishing.run_files import CARD_NAME, PAGE_NAME
from .compared import ComparedRun
from .earlier_runs import earlier_runs
from .inventory import write_inventory
from .own_files import refuse_foreign, remove_folder
from .own_names import CACHE_FOLDER, COMPARISON_FILE
from .report import REPORT_FOLDER
from .walk import is_whole, write_run_report

logger = logging.get_logger(__name__)


def compare(run: ComparedRun, root: Path, finished: Mapping[str, Sequence[RunResults]]) -> str:
    """Compare runs on the rows of the main split: `comparison.md`, and the report of the first run written anew.

    Runs that earlier calls finished in the folder, on the same recipe and rows, stay in it.

    Args:
        run: the first architecture with the first seed, the reference of the comparison.
        root: holds a folder `ARCHITECTURE-seedSEED` of each run.
        finished: architecture → its results, one a seed.

    Returns:
        The closing words.
    """
    recipe, folder = run.recipe, run.recipe.folder
    own = next(iter(finished))
    results = finished[own][0]
    refuse_foreign(folder)  # its report and card are written anew
    run.restore()
    split = results.split
    models = {
        name: [
            ScoredModel(run.read_scored(root / f"{name}-seed{one.seed}")[split], one.thresholds, one.minutes)
            for one in found
        ]
        for name, found in finished.items()
    }
    seeds = recipe.run.seeds or [recipe.training.seed]
    asked = [f"{name}-seed{one.seed}" for name, found in finished.items() for one in found]
    asked += [f"{name}-seed{seed}" for name in recipe.run.compare if name in run.baselines for seed in seeds]
    earlier, told = earlier_runs(run, root, split, asked)
    named = [name for name in dict.fromkeys(recipe.run.compare) if name in run.baselines]
    if named and run.baselines_need_one_process and recipe.training.world_size > 1:
        logger.warning(
            f"{', '.join(named)} left out: baselines are fitted by one process. Give the same command again without "
            "torchrun; the finished runs are only read."
        )
        named = []
    for name in named:
        models[name] = run.run_baseline(root, name, seeds, split)
    for one in sorted(earlier, key=lambda one: one.is_baseline):
        models.setdefault(one.name, []).append(one.scored)
    models[MAJORITY] = run.run_baseline(root, MAJORITY, seeds, split)
    simple = {*named, *(one.name for one in earlier if one.is_baseline)}
    metrics = tuple(results.headline)
    labelled = (run.config.problem_type, run.config.id2label)
    compared = compare_scored(models, *labelled, run.resample_by, recipe.run.bootstrap, metrics)
    for result in compared:
        reads_less = result.name in run.one_input and own not in run.one_input
        result.is_baseline = result.name in simple or reads_less  # the sentences say whether more is better
    sentences = [*lead_sentences(compared, metrics[0]), *told, *([results.left_out] if results.left_out else [])]
    lines = ["", *sentences] if sentences else []
    text = "\n".join([comparison_markdown(compared, metrics, split), *lines])
    page, file = folder / REPORT_FOLDER / PAGE_NAME, root / COMPARISON_FILE
    if not _is_reported(text, file, page):
        write_whole(file, text + "\n")
        # The curve of a constant score tells nothing.
        others = {name: seeds[0].rows for name, seeds in models.items() if name not in (own, MAJORITY)}
        write_run_report(run, results, compared, others)
    remove_folder(root, CACHE_FOLDER)
    write_inventory(root)
    return f"\n{text}\n\nTable: {file}\nModel, processor and card: {folder}\nReport: {page}"


def _is_reported(text: str, file: Path, page: Path) -> bool:
    """Whether an earlier call wrote this very comparison, and after it the report and the card of the same run."""
    if not file.is_file() or file.read_text(encoding="utf-8") != text + "\n" or not is_whole(page):
        return False
    is_newer = page.stat().st_mtime_ns >= file.stat().st_mtime_ns
    return is_newer and 'id="comparison"' in page.read_text(encoding="utf-8") and is_whole(page.parents[1] / CARD_NAME)
