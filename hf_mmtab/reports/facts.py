"""Everything that a report or a model card may say. What is missing is left out; nothing is invented."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.cell_baselines import FieldScore
from ..evaluation.comparison import ModelResult
from ..evaluation.row_evaluation import HEADLINE
from ..evaluation.run_results import RunResults
from ..metrics import Interval, decide
from ..metrics.decisions import DEFAULT_THRESHOLD, binary_threshold, check_problem_type

# What one draw of the bootstrap takes.
DRAWN = {"row": "rows", "day": "whole days", "entity": "whole histories"}
MASKED_LM = "masked_lm"  # the problem type of pretraining, which no config has
TellReasons = Callable[[int, int | None], list[str]]  # (row, label or None for the predicted one) → words


@dataclass
class SplitPredictions:
    """What the model said about the rows of one split.

    Args:
        probabilities: shape `(rows, num_labels)`; regression: predicted values `(rows, targets)`.
        labels: class ids `(rows,)`, 0/1 `(rows, num_labels)`, or values; None if unlabelled.
        rows: for showing single rows: `rows[i]` is a dict with any of `image` (PIL, path, bytes or the dict
            of `datasets`), `text` or `sentence1`/`sentence2`, `history` (a `HistoryTable`), `id`.
        times: `datetime64` of each row, for scores over time.
        amounts: of money of each row, for the share of money that alerts find; NaN where missing.
        groups: entity of each row, shown beside an error.
        picture_folder: folder of the data; pictures that lie outside of it are not shown. None: all are.
        others: name → what another model said about the same rows, of the shape of `probabilities`.
        explain: place of a row, and a label → the strongest reasons for its score, in words. None: none are shown.
    """

    probabilities: np.ndarray
    labels: np.ndarray | None = None
    rows: Sequence[Mapping[str, Any]] | None = None
    times: np.ndarray | None = None
    groups: np.ndarray | None = None
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    picture_folder: str | Path | None = None
    amounts: np.ndarray | None = None
    explain: TellReasons | None = None

    def __post_init__(self):
        self.probabilities = np.asarray(self.probabilities, dtype=np.float64)
        if self.probabilities.ndim == 1:
            self.probabilities = self.probabilities[:, None]
        if self.labels is not None:
            self.labels = np.asarray(self.labels)
        for name in ("labels", "rows", "times", "groups", "amounts"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.probabilities):
                expected = f"{len(self.probabilities)} {name}, one per prediction"
                raise ValueError(f"Expected {expected}, found {len(value)}.")
        for name, scores in self.others.items():
            if np.shape(scores) != self.probabilities.shape:
                raise ValueError(
                    f"Expected predictions of {name} of shape {self.probabilities.shape} as the run's own, found "
                    f"{np.shape(scores)}."
                )

    @property
    def truth(self) -> np.ndarray:
        """The labels, where there are some."""
        assert self.labels is not None
        return self.labels


@dataclass
class RunFacts:
    """The facts of one training or evaluation run. Only the first three are needed.

    Args:
        title: e.g. "MMBT on openclipart".
        problem_type: as in the model's config, or "masked_lm" for pretraining on masked cells.
        id2label: names of labels (regression: of targets).
        task: one sentence: what is predicted from what.
        results: of the run. The headline is that of `results.split`.
        main_metric: the number of the headline; default by problem type.
        predictions: split → `SplitPredictions`. Curves and examples use `results.split`.
        comparison: this run and its baselines on the same rows.
        explained: name of a model of `comparison` → what it is, where the name does not say it.
        log_history: Trainer's `state.log_history`.
        kept_step: optimizer step of the checkpoint that was kept; None: the last.
        freeze_timeline: `FreezePlan.timeline()`.
        audit_path: the JSON lines of the update audit.
        bad_records: reason → number of input records left out; `results.skipped` lists them.
        command: the exact command that repeats the run.
        recipe: the recipe's text.
        versions: package → version.
    """

    title: str
    problem_type: str
    id2label: Mapping[int, str]
    task: str | None = None
    results: RunResults = field(default_factory=lambda: RunResults("", "", "test"))
    main_metric: str | None = None
    predictions: Mapping[str, SplitPredictions] = field(default_factory=dict)
    comparison: Sequence[ModelResult] = ()
    explained: Mapping[str, str] = field(default_factory=dict)
    log_history: Sequence[Mapping[str, Any]] = ()
    kept_step: int | None = None
    freeze_timeline: str | None = None
    audit_path: str | Path | None = None
    bad_records: Mapping[str, int] = field(default_factory=dict)
    command: str | None = None
    recipe: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.problem_type != MASKED_LM:
            check_problem_type(self.problem_type)
        self.id2label = {int(i): str(name) for i, name in self.id2label.items()}
        if self.main_metric is None:
            self.main_metric = HEADLINE.get(self.problem_type, ("accuracy",))[0]

    @property
    def scores(self) -> Mapping[str, float]:
        """Metric → value on the split of the headline."""
        return self.results.metrics.get(self.results.split, {})

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """Metric → interval on the split of the headline."""
        return self.results.intervals.get(self.results.split, {})

    @property
    def drawn(self) -> str:
        """What the intervals draw, in words."""
        return DRAWN[self.results.resampled_by]

    @property
    def audited(self) -> str:
        """Which weights the update audit is of, beside those that were kept."""
        at_end, soup = "Measured at the last step of training", self.results.soup
        if soup is not None and len(soup["steps"]) > 1:
            return f"{at_end}; the model is the mean of those of steps {', '.join(map(str, sorted(soup['steps'])))}."
        if self.kept_step is None:
            return f"{at_end}."
        if self.kept_step == 0:
            at_end += ", which was discarded"
        return f"{at_end}; the model that was kept is that of step {self.kept_step:,}."

    @property
    def fields(self) -> Sequence[FieldScore]:
        """Of pretraining: how often the judged cells of each field are right, on the split of the headline."""
        return self.results.fields.get(self.results.split, ())

    @property
    def is_binary(self) -> bool:
        """Two classes, one label: class 1 is the positive one."""
        return self.problem_type == "single_label_classification" and len(self.id2label) == 2

    @property
    def main_predictions(self) -> SplitPredictions | None:
        """Predictions of the headline's split, if there are labelled ones."""
        found = self.predictions.get(self.results.split)
        return found if found is not None and found.labels is not None and len(found.labels) else None

    def decisions(self, predictions: SplitPredictions) -> np.ndarray:
        """Predicted classes at the saved thresholds."""
        return decide(predictions.probabilities, self.problem_type, self.results.thresholds)

    @property
    def binary_cut(self) -> float:
        """The threshold of class 1."""
        return DEFAULT_THRESHOLD if self.results.thresholds is None else binary_threshold(self.results.thresholds)
