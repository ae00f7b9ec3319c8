"""What each number adds to the score of boosted trees: SHAP values, as LightGBM computes them itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..models.tabbert.boosted_trees import is_binary


def tree_reasons(
    model: Any, name: str, numbers: torch.Tensor, names: Sequence[str], judged: int, label: int
) -> tuple[dict[tuple[int, str], float], float]:
    """Return the attributions of one row's numbers, and the score that they start from.

    Args:
        model: with fitted trees.
        name: of the trees.
        numbers: of the row, shape `(numbers,)`.
        names: of the numbers.
        judged: place of the row in its window.
        label: the class whose log odds are explained; of more than two classes its score, of a regression its value.
    """
    boosters = model.boosters[name]
    given = numbers.detach().float().cpu().numpy()[None]
    found = [booster.predict(given, pred_contrib=True).reshape(-1, len(names) + 1) for booster in boosters]
    two = is_binary(model.config)
    # (outputs, numbers + 1), the last one what the score starts from; of two classes trees are averaged
    outputs = np.mean(found, axis=0) if two else np.concatenate(found)
    added, bias = outputs[0 if two else label], _bias(model)
    sign = -1.0 if two and label == 0 else 1.0
    start = sign * added[-1] + (bias[label] - bias[1 - label] if two else bias[label])
    return {(judged, one): float(sign * value) for one, value in zip(names, added, strict=False)}, float(start)


def _bias(model: Any) -> np.ndarray:
    """Return what is added to the trees' scores of each label; a fusion adds nothing."""
    bias = getattr(model, "bias", None)
    return np.zeros(model.config.num_labels) if bias is None else bias.detach().float().cpu().numpy()
