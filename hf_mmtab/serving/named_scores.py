"""Labels and scores from logits, with NumPy alone: what pipelines and services answer."""

from typing import Any, Literal

import numpy as np

DEFAULT_THRESHOLD = 0.5
# The default of `top_k`: what the model decides at its own thresholds.
DECIDED: Literal["decided"] = "decided"

Answer = dict[str, Any]  # label and score
TopK = int | Literal["decided"] | None


def check_top_k(top_k: Any) -> None:
    """Refuse a number of labels that no answer can have.

    Raises:
        ValueError: unless it is a whole number from 1 on, None or "decided".
    """
    if top_k is None or (isinstance(top_k, str) and top_k == DECIDED):
        return
    if not isinstance(top_k, int | np.integer) or isinstance(top_k, bool) or top_k < 1:
        raise ValueError(
            'Expected top_k to be a whole number from 1 on, None (JSON: null) for all labels, or "decided" for those '
            f"that the model decides for, found {top_k!r:.40}."
        )


def answers(logits: np.ndarray, config: Any, top_k: TopK = DECIDED) -> Answer | list[Answer]:
    """Turn the logits `(labels,)` of one example into labels and scores.

    Args:
        logits: of one example, float32.
        config: of the model: problem type, names, thresholds that were tuned on validation.
        top_k: so many labels with the highest scores, None: all. "decided": the one label that the model decides for,
            of several labels those that reach their thresholds.

    Returns:
        `{"label", "score"}`, or a list of them with the highest score first. The score is a probability; of a
        regression the value itself, with the name of the target as label.

    Raises:
        ValueError: if `top_k` is no such number.
    """
    check_top_k(top_k)
    names = [config.id2label[i] for i in range(len(logits))]
    if config.problem_type == "regression":
        found = [{"label": name, "score": value} for name, value in zip(names, logits.tolist(), strict=True)]
        return found[0] if len(found) == 1 else found
    several = config.problem_type == "multi_label_classification"
    scores = probabilities(logits, several)
    ranked = np.argsort(-scores, kind="stable").tolist()
    if top_k == DECIDED:
        chosen = decided_labels(scores, config)
        ranked = [label for label in ranked if label in chosen]
    else:
        ranked = ranked[:top_k]
    listed = [{"label": names[label], "score": float(scores[label])} for label in ranked]
    return listed[0] if top_k == DECIDED and not several else listed


def probabilities(logits: np.ndarray, several: bool) -> np.ndarray:
    """Return the sigmoid of logits `(..., labels)` where an example may have several labels, else the softmax."""
    if several:
        return np.exp(-np.logaddexp(np.float32(0), -logits))
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def decided_labels(scores: np.ndarray, config: Any) -> list[int]:
    """Return the label that a model decides for; of several labels those that reach their thresholds.

    Args:
        scores: probabilities `(labels,)` of one example.
        config: of the model; MMBT has a threshold per label, TabBERT one for the positive of two classes.
    """
    thresholds = getattr(config, "thresholds", None)
    if config.problem_type == "multi_label_classification":
        cuts = np.float32(thresholds or DEFAULT_THRESHOLD)
        return np.flatnonzero(scores >= cuts).tolist()
    cut = thresholds[0] if thresholds else getattr(config, "threshold", None)
    if cut is not None and len(scores) == 2:
        return [int(float(scores[1]) >= cut)]
    return [int(scores.argmax())]
