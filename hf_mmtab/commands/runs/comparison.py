"""Several runs of one recipe, and baselines, on the same rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...evaluation.comparison import compare_scored, comparison_markdown
from ...evaluation.run_results import RunResults
from ...evaluation.scored_rows import ScoredRows
from ...files import write_whole
from .image_text import ImageTextRun
from .own_files import CACHE_FOLDER, COMPARISON_FILE, remove_folder
from .table_heads import HeadRun
from .walk import write_run_report


def compare(run: ImageTextRun | HeadRun, root: Path, finished: Mapping[str, Sequence[RunResults]]) -> str:
    """Compare runs on the rows of the main split: `comparison.md`, and the report of the first run written anew.

    Args:
        run: the first architecture with the first seed, the reference of the comparison.
        root: holds a folder `ARCHITECTURE-seedSEED` of each run.
        finished: architecture → its results, one a seed.

    Returns:
        The closing words.
    """
    recipe, folder = run.recipe, run.recipe.folder
    results = finished[recipe.model.architecture][0]
    run.restore()
    split = results.split
    models: dict[str, list[ScoredRows]] = {}
    thresholds: dict[str, list[Sequence[float] | None]] = {}
    minutes: dict[str, list[float]] = {}
    for name, found in finished.items():
        models[name] = [run.read_scored(root / f"{name}-seed{one.seed}")[split] for one in found]
        thresholds[name] = [one.thresholds for one in found]
        minutes[name] = [one.minutes for one in found]
    if isinstance(run, HeadRun):
        names = [name for name in dict.fromkeys(recipe.run.compare) if name in run.baselines]
        for name, made in run.run_baselines(root, names, recipe.run.seeds or [recipe.training.seed]).items():
            models[name] = [scored[split] for scored, _, _ in made]
            thresholds[name] = [None if cut is None else [cut] for _, cut, _ in made]
            minutes[name] = [spent for _, _, spent in made]
    resample_by = run.recipe.run.resample_by if isinstance(run, HeadRun) else "row"
    metrics = tuple(results.headline)
    compared = compare_scored(
        models,
        run.config.problem_type,
        run.config.id2label,
        thresholds,
        minutes,
        resample_by,
        recipe.run.bootstrap,
        metrics,
    )
    text = comparison_markdown(compared, metrics, split)
    write_whole(root / COMPARISON_FILE, text + "\n")
    others = {name: scored[0] for name, scored in models.items() if name != recipe.model.architecture}
    page = write_run_report(run, results, compared, others)
    remove_folder(root, CACHE_FOLDER)
    return f"\n{text}\n\nTable: {root / COMPARISON_FILE}\nModel, processor and card: {folder}\nReport: {page}"
