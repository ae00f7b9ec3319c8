"""Runs and baselines that earlier calls left in a folder of several: they stay in its table, or it says why not."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from ...evaluation.comparison import ScoredModel, require_same_rows
from ...evaluation.judging import MAJORITY
from ...evaluation.run_results import RESULT_FILE, RunResults
from ...recipes import read_recipe
from ...tasks.checkpoints import RECIPE_FILE
from .compared import ComparedRun, fitted_minutes
from .own_names import RUN_OF_SEVERAL
from .recipe import recorded

# What differs between the runs of one folder, and what does not say which run it is.
OF_ONE_RUN = ("architecture", "seed", "output_dir", "hub_model_id", "ensemble_members")


class EarlierRun(NamedTuple):
    """A run, or a baseline, that this call did not ask for.

    Args:
        name: of its architecture or baseline.
        scored: on the main split.
        is_baseline: whether it was fitted and not trained.
    """

    name: str
    scored: ScoredModel
    is_baseline: bool


def earlier_runs(
    run: ComparedRun, root: Path, split: str, asked: Collection[str]
) -> tuple[list[EarlierRun], list[str]]:
    """Return what earlier calls finished on the same recipe and rows, and sentences about what they left beside it.

    Args:
        run: of this call, whose data is read.
        root: holds a folder `NAME-seedSEED` of each run.
        split: the main one.
        asked: names of the folders of this call.
    """
    names = [path.name for path in sorted(root.iterdir()) if path.is_dir() and RUN_OF_SEVERAL.fullmatch(path.name)]
    others = [name for name in names if name not in asked and not name.startswith(f"{MAJORITY}-seed")]
    kept: list[EarlierRun] = []
    left_out: dict[str, str] = {}
    differ = False  # runs beside which a baseline was fitted
    for name in others:
        if (root / name / RESULT_FILE).is_file():
            if why := _difference(run, root / name):
                left_out[name], differ = why, True
        elif not is_baseline(run, name):
            left_out[name] = "not finished"
    for name in others:
        fitted = is_baseline(run, name) and not (root / name / RESULT_FILE).is_file()
        if fitted and differ:  # which recipe and data a baseline has is known where all runs share them
            left_out[name] = "fitted beside runs of which some have another recipe or other data"
        if name in left_out:
            continue
        try:
            scored = run.read_scored(root / name)
            require_same_rows("this call", run.scored[split], name, scored[split])
        except FileNotFoundError:
            left_out[name] = "whose predictions are gone"
            continue
        except OSError as error:
            left_out[name] = f"whose predictions cannot be read ({error})"
            continue
        except ValueError as error:
            left_out[name] = str(error).partition(". ")[0]
            continue
        results = None if fitted else RunResults.read(root / name)
        thresholds = run.tune(scored["validation"]) if results is None else results.thresholds
        minutes = fitted_minutes(root / name) if results is None else results.minutes
        one = ScoredModel(scored[split], thresholds, minutes)
        kept.append(EarlierRun(name.rpartition("-seed")[0], one, fitted))
    told = [f"Left out: {name}, {why}. Its files lie in {str(root / name)!r}." for name, why in left_out.items()]
    return kept, told


def is_baseline(run: ComparedRun, name: str) -> bool:
    """Whether a folder is called like that of a baseline."""
    return name.rpartition("-seed")[0] in run.baselines


def _difference(run: ComparedRun, folder: Path) -> str:
    """Return what a finished run has in another way than this call's; empty: nothing."""
    try:
        theirs = _shared(read_recipe(folder / RECIPE_FILE))
    except (OSError, ValueError):
        return f"whose {RECIPE_FILE} is gone or damaged"
    mine = _shared(run.recipe.values)
    if changed := sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key)):
        return f"another recipe ({', '.join(changed[:5])})"
    done = RunResults.read(folder)
    before, now = done and done.data_digest, run.data_digest()
    if None not in (before, now) and before != now:
        return "trained before the data's files were changed or moved"
    return ""


def _shared(values: Any) -> dict[str, Any]:
    return {key: value for key, value in recorded(values).items() if key not in OF_ONE_RUN}
