"""Whether boosted trees, and how a fusion joins them, are as the configuration beside them says.

Each function returns what is wrong as `what was expected, found what`; None: nothing is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .modeling_tabbert_numbers import POINTS
from .tree_files import trees_file


def counts_problem(config: Any, kinds: Sequence[str]) -> str | None:
    """Look at the counts of a configuration, before any file is read.

    Args:
        config: of the model.
        kinds: names of trees that such a model may have.
    """
    counts, saved = config.trees or {}, config.trees_sha256
    if wrong := [name for name, count in counts.items() if name not in kinds or count < 1]:
        return f"trees to count files of {' and '.join(kinds)}, found {wrong[0]}: {counts[wrong[0]]}"
    if saved is not None:
        total = sum(counts.values())  # which may be absurd
        if total != len(saved) or {trees_file(name, i) for name in counts for i in range(counts[name])} != {*saved}:
            return f"trees to count the files of trees_sha256 ({', '.join(sorted(saved))}), found {counts}"
    return None


def fusion_problem(config: Any, ways: Sequence[str]) -> str | None:
    """Look at how a configuration joins the halves of a fusion.

    Args:
        config: of the model.
        ways: of joining that its kind of label has.
    """
    fusion, trees = config.fusion or {}, config.trees or {}
    if not fusion:
        return f"fusion to say how both halves are joined, found {config.fusion} beside trees" if trees else None
    chosen: Any = fusion.get("chosen")
    if chosen not in ways:
        return f"fusion.chosen among {', '.join(ways)}, found {chosen!r}"
    needed = {"sequence": None, "trees": "fused"}.get(chosen, "statistics")
    if needed is not None and needed not in trees:
        return f"trees {needed!r} beside fusion.chosen {chosen!r}, found {config.trees}"
    if needed is None or chosen in ("boosted", "trees"):
        return None
    known = fusion.get("weights")
    weights = known.get(chosen) if isinstance(known, dict) else known
    if not isinstance(known, dict) or not _are_numbers(weights, 3):
        return f"two weights and a bias in fusion.weights.{chosen}, found {weights!r}"
    halves: Any = fusion.get("quantiles")
    are_known = isinstance(halves, list) and len(halves) == 2 and all(_are_numbers(one, POINTS) for one in halves)
    if chosen == "rank_average" and not (are_known and all(one == sorted(one) for one in halves)):
        return f"{POINTS} rising quantiles of each half in fusion.quantiles, found {str(halves)[:60]}"
    return None


def outputs_problem(config: Any, boosters: Mapping[str, Sequence[Any]]) -> str | None:
    """Look at the trees themselves.

    Args:
        config: of the model.
        boosters: name → LightGBM's, as they were read.
    """
    of_classes = config.problem_type != "regression" and config.num_labels == 2
    for name, held in boosters.items():
        outputs = [booster.num_model_per_iteration() for booster in held]
        if ({*outputs} != {1}) if of_classes else (sum(outputs) != config.num_labels):
            return f"trees {name!r} that fit {config.num_labels} labels, found files of {outputs} outputs"
        read, known = held[0].num_feature(), len(config.statistics or [])
        if read != known if name == "statistics" else read <= known:
            return f"statistics that trees {name!r} read ({read} numbers), found {known}"
    return None


def _are_numbers(values: Any, count: int) -> bool:
    are_finite = isinstance(values, list) and all(type(one) in (int, float) and math.isfinite(one) for one in values)
    return are_finite and len(values) == count
