"""The rows that the model got wrong, most confident first, with thumbnails."""

import base64
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils.logging import get_logger

from ..evaluation.cell_errors import CellError
from ..evaluation.decoded_histories import HistoryTable, as_text
from ..models.mmbt.image_reading_mmbt import ImageReadError, is_missing, read_image
from .facts import RunFacts, SplitPredictions

logger = get_logger(__name__)

THUMBNAIL = 176  # pixels of the longer side
TEXT_LENGTH = 280  # characters shown of a text


@dataclass
class Example:
    """One wrong prediction, ready to be shown: `image` is a data URI, `note` says why there is none; `title` says what
    was asked, where it is not the same for all.
    """

    row: int
    true: str
    predicted: str
    certainty: str
    text: str = ""
    image: str | None = None
    note: str = ""
    identity: str = ""
    history: HistoryTable | None = None
    title: str = ""
    # several labels: each predicted one, and whether it is right
    given: list[tuple[str, bool]] = field(default_factory=list)
    wanted: list[tuple[str, bool]] = field(default_factory=list)  # each true one, and whether it is predicted
    reasons: list[str] = field(default_factory=list)  # what the score of `label` hangs on most
    label: int | None = None  # number of the label, or target, that is wrong


def worst_errors(facts: RunFacts, predictions: SplitPredictions, most: int = 24) -> list[Example]:
    """The wrong predictions of which the model was surest (regression: the largest errors)."""
    rank = {
        "single_label_classification": _single_label_errors,
        "multi_label_classification": _multi_label_errors,
        "regression": _regression_errors,
    }[facts.problem_type]
    found = rank(facts, predictions, most)
    if predictions.groups is not None:
        found = _histories_in_turn(facts, predictions, found)
    return [_with_row(example, predictions) for example in found]


def _histories_in_turn(facts: RunFacts, predictions: SplitPredictions, examples: list[Example]) -> list[Example]:
    """Put one error of each history before a second, whose table is nearly the same; missed ones stay first."""
    assert predictions.groups is not None
    met: Counter[tuple[bool, str]] = Counter()
    turns = []
    for example in examples:
        is_alarm = facts.is_binary and bool(predictions.truth[example.row] == 0)
        key = is_alarm, str(predictions.groups[example.row])
        turns.append((is_alarm, met[key]))
        met[key] += 1
    return [examples[place] for place in sorted(range(len(examples)), key=turns.__getitem__)]


def cell_examples(errors: Sequence[CellError]) -> list[Example]:
    """Wrong cells of pretraining, each under the name of its field."""
    return [
        Example(
            error.row,
            error.true,
            error.predicted,
            f"{as_percent(error.probability)}; true value {as_percent(error.true_probability)}",
            history=error.history,
            title=error.field,
            identity=error.entity,
        )
        for error in errors
    ]


def _single_label_errors(facts: RunFacts, predictions: SplitPredictions, most: int) -> list[Example]:
    names, labels, probabilities = facts.id2label, predictions.truth, predictions.probabilities
    decided = facts.decisions(predictions)
    wrong = np.flatnonzero(decided != labels)
    if facts.is_binary:  # how far the probability lies on the wrong side, both kinds of error alike
        cut, scores = facts.binary_cut, probabilities[wrong, 1]
        over, under = (scores - cut) / max(1 - cut, 1e-12), (cut - scores) / max(cut, 1e-12)
        sureness = np.where(decided[wrong] == 1, over, under)
        wrong = _interleave(wrong[np.argsort(-sureness, kind="stable")], labels, most)
    else:
        wrong = wrong[np.argsort(-probabilities[wrong, decided[wrong]], kind="stable")]
    examples = []
    for i in wrong[:most]:
        true, given = int(labels[i]), int(decided[i])
        sure = as_percent(probabilities[i, given])
        if not facts.is_binary:
            sure += f"; true class {as_percent(probabilities[i, true])}"
        examples.append(Example(int(i), names[true], names[given], sure, label=given))
    return examples


def _interleave(ranked: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Missed positives and false alarms in turn, so that the many false alarms do not hide the missed ones."""
    missed, alarms = ranked[labels[ranked] == 1], ranked[labels[ranked] == 0]
    half = most // 2
    num_missed = min(len(missed), max(half, most - len(alarms)))
    return np.concatenate([missed[:num_missed], alarms[: most - num_missed]])


def _multi_label_errors(facts: RunFacts, predictions: SplitPredictions, most: int) -> list[Example]:
    """Ranked by the one label that is most confidently wrong."""
    names, labels, probabilities = facts.id2label, predictions.truth, predictions.probabilities
    decided = facts.decisions(predictions)
    cuts = np.broadcast_to(0.5 if facts.results.thresholds is None else facts.results.thresholds, labels.shape[1:])
    over = (probabilities - cuts) / np.maximum(1 - cuts, 1e-12)
    under = (cuts - probabilities) / np.maximum(cuts, 1e-12)
    sureness = np.where(decided != labels, np.where(decided == 1, over, under), -1.0)
    order = np.argsort(-sureness.max(axis=1), kind="stable")[:most]
    examples = []
    for i in order[sureness[order].max(axis=1) >= 0]:
        worst = int(sureness[i].argmax())
        true = ", ".join(names[int(j)] for j in np.flatnonzero(labels[i])) or "none"
        given = ", ".join(names[int(j)] for j in np.flatnonzero(decided[i])) or "none"
        sure = f"{names[worst]} {as_percent(probabilities[i, worst])}, threshold {as_percent(cuts[worst])}"
        each = [(names[int(j)], bool(labels[i, j])) for j in np.flatnonzero(decided[i])]
        wanted = [(names[int(j)], bool(decided[i, j])) for j in np.flatnonzero(labels[i])]
        examples.append(Example(int(i), true, given, sure, given=each, wanted=wanted, label=worst))
    return examples


def _regression_errors(facts: RunFacts, predictions: SplitPredictions, most: int) -> list[Example]:
    """Ranked by the error in units of each target's spread."""
    targets = predictions.truth.astype(np.float64).reshape(len(predictions.truth), -1)
    values = predictions.probabilities
    errors = np.abs(values - targets)
    spread = np.nanstd(targets, axis=0)
    scaled = np.where(np.isfinite(errors), errors / np.where(spread > 0, spread, 1), -1.0)
    examples = []
    for i in np.argsort(-scaled.max(axis=1), kind="stable")[:most]:
        j = int(scaled[i].argmax())
        true, given = _named_values(facts, targets[i]), _named_values(facts, values[i])
        examples.append(Example(int(i), true, given, f"{facts.id2label[j]} off by {errors[i, j]:.4g}", label=j))
    return examples


def _named_values(facts: RunFacts, values: np.ndarray) -> str:
    return ", ".join(f"{facts.id2label[i]} {value:.4g}" for i, value in enumerate(values))


def as_percent(share: float) -> str:
    """Return a share with the digits that tell it from 0 and 1."""
    return f"{share:.0%}" if 0.01 <= share <= 0.99 else f"{share:.2%}"


def identity_of(predictions: SplitPredictions, row: int) -> str:
    """Return whose a row is, and when it was."""
    told = [] if predictions.groups is None else [str(predictions.groups[row])]
    if predictions.times is not None:
        told.append(np.datetime_as_string(predictions.times[row].astype("datetime64[m]")).replace("T", " "))
    return " ".join(told).strip()


def _with_row(example: Example, predictions: SplitPredictions) -> Example:
    """Add picture, text and history of the row."""
    example.identity = identity_of(predictions, example.row)
    if predictions.rows is None:
        return example
    try:
        row: Mapping[str, Any] = predictions.rows[example.row]
    except (OSError, ValueError) as error:  # a picture that cannot be decoded
        example.note = f"row cannot be read: {error}"
        logger.warning(f"Report: row {example.row} cannot be shown: {error}")
        return example
    sentences = [row[name] for name in ("text", "sentence1", "sentence2") if row.get(name)]
    example.text = " — ".join(as_text(str(sentence), TEXT_LENGTH) for sentence in sentences)
    example.history = row.get("history")
    example.identity = example.identity or str(row.get("id") or "")
    if "image" in row or "images" in row:
        shown = (row["images"] or [None])[0] if "images" in row else row["image"]  # the first of several
        if _lies_outside(shown, predictions.picture_folder):
            example.note = "the picture lies outside of the data's folder"
        else:
            example.image, example.note = thumbnail(shown)
    return example


def _lies_outside(image: Any, folder: str | Path | None) -> bool:
    """Tell whether a data set names a picture, by an absolute path or `..`, that is none of its own."""
    path = image.get("path") if isinstance(image, Mapping) else getattr(image, "filename", image)
    if folder is None or not isinstance(path, str | Path) or not str(path) or not os.path.isabs(path):
        return False
    # by their names: a link that somebody put into the folder belongs to it
    return not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def thumbnail(image: Any, size: int = THUMBNAIL) -> tuple[str | None, str]:
    """A picture as a small JPEG in a data URI; or None and the reason.

    Args:
        image: as `read_image` takes it; None: no picture.
        size: pixels of the longer side at most.
    """
    if is_missing(image):
        return None, "no picture"
    try:
        picture = read_image(image, min_side=2 * size)
    except ImageReadError as error:
        logger.warning(f"Report: a picture cannot be shown: {error}")
        return None, "picture cannot be read"
    picture.thumbnail((size, size))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", ""
