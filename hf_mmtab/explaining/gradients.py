"""Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) by Captum, finer where the score is steep."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..extras import import_extra
from .explanation import COMPLETE, ODDS_OF, VALUE_OF

STEPS = 32  # on each piece of the way from the baseline to the input
MOST_PIECES = 64
LEAST_CHANGE = 0.1  # a smaller change of the score than this counts as this, in the units of the score


@dataclass(frozen=True)
class Attributed:
    """Integrated gradients of one input.

    Args:
        parts: attributions by the name of the part, each of the shape of its input without the batch.
        score: of the input.
        baseline: score of the baseline.
    """

    parts: dict[str, torch.Tensor]
    score: float
    baseline: float

    @property
    def error(self) -> float:
        """By how much the attributions miss the change of the score, as a share of it."""
        total = sum(float(part.sum()) for part in self.parts.values())
        return relative_error(total, self.score - self.baseline)


@dataclass(eq=False)
class _Piece:
    """Integrated gradients of a piece of the way, and by how much they miss the change of the score there."""

    low: float
    high: float
    parts: list[torch.Tensor]
    missed: float


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off and keep running statistics as they are; afterwards every module is in the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def relative_error(total: float, change: float) -> float:
    """Return by how much attributions miss the change of the score, as a share of it."""
    return abs(total - change) / max(abs(change), LEAST_CHANGE)


def import_captum() -> Any:
    """Return the module of attribution methods; it comes with an extra."""
    return import_extra("captum.attr", "explanations", "explain")


def integrated_gradients(
    function: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    inputs: dict[str, torch.Tensor],
    baselines: dict[str, torch.Tensor],
) -> Attributed:
    """Attribute the change of a score from a baseline to an input to the pieces of the input.

    Args:
        function: takes tensors of the names and shapes of `inputs`, but with any number of examples, and returns a
            score for each, shape `(batch,)`.
        inputs: each of shape `(1, ...)`.
        baselines: of the same shapes.
    """
    attr, names = import_captum(), list(inputs)
    method = attr.IntegratedGradients(lambda *parts: function(dict(zip(names, parts, strict=True))))
    starts, ends = ([given[name].detach() for name in names] for given in (baselines, inputs))

    def point(share: float) -> tuple[torch.Tensor, ...]:
        return tuple(start + share * (end - start) for start, end in zip(starts, ends, strict=True))

    @torch.no_grad()
    def score_at(share: float) -> float:
        return float(function(dict(zip(names, point(share), strict=True)) if names else inputs))

    def piece(low: float, high: float) -> _Piece:
        gradients = method.attribute(point(high), point(low), n_steps=STEPS, internal_batch_size=STEPS)
        parts = [one[0].detach() for one in gradients]
        missed = sum(float(part.sum()) for part in parts) - (score_at(high) - score_at(low))
        return _Piece(low, high, parts, missed)

    score, baseline = score_at(1.0), score_at(0.0)
    if not names:
        return Attributed({}, score, baseline)
    pieces = [piece(0.0, 1.0)]
    while abs(sum(one.missed for one in pieces)) > COMPLETE / 2 * max(abs(score - baseline), LEAST_CHANGE):
        if len(pieces) == MOST_PIECES:
            break
        worst = max(pieces, key=lambda one: abs(one.missed))
        middle = (worst.low + worst.high) / 2
        pieces.remove(worst)
        pieces += [piece(worst.low, middle), piece(middle, worst.high)]
    parts = [torch.stack(several).sum(dim=0) for several in zip(*(one.parts for one in pieces), strict=True)]
    return Attributed(dict(zip(names, parts, strict=True)), score, baseline)


def log_odds(logits: torch.Tensor, label: int, problem_type: str | None) -> torch.Tensor:
    """Return the log odds of a label, or the value of a target, `(batch,)`, from logits `(batch, labels)`."""
    if problem_type in ("regression", "multi_label_classification"):
        return logits[:, label]
    others = [number for number in range(logits.shape[1]) if number != label]
    return logits[:, label] - logits[:, others].logsumexp(dim=1)


def explained_name(config: Any, label: int) -> str:
    """Return what the score is, in words."""
    name = config.id2label[label]
    return f"{VALUE_OF}{name}" if config.problem_type == "regression" else f"{ODDS_OF}{name}"


def chosen_label(config: Any, logits: torch.Tensor, label: str | int | None) -> int:
    """Return the number of the label that is asked for; None: the one with the highest logit of `(labels,)`.

    Raises:
        ValueError: if the model has no such label.
    """
    if label is None:
        return 0 if config.problem_type == "regression" else int(logits.argmax())
    known = {str(name): int(number) for number, name in config.id2label.items()}
    if isinstance(label, str) and label in known:
        return known[label]
    if isinstance(label, int) and not isinstance(label, bool) and label in known.values():
        return label
    raise ValueError(f"Expected a label of the model ({', '.join(known)}), found {label!r}.")
