"""Run a baseline on the windows of a model: fitted on the rows that it learns from, judged on those it is judged on."""

from collections.abc import Callable, Mapping

import numpy as np
from transformers.utils import logging

from ..data.windows.cutting import WindowDataset, has_label
from ..evaluation.scored_rows import ScoredRows, judged_rows, scores_of_rows
from ..statistics.features import GROUPS, OF_A_ROW
from ..statistics.of_all_histories import read_parts
from ..statistics.old_labels import OldLabels
from ..statistics.row_statistics import RowStatistics
from ..tasks.table import PreparedTable
from .amount import AmountTrees
from .boosting import BoostedTrees, Features, fit_trees, import_lightgbm

logger = logging.get_logger(__name__)

# Rows that boosted trees are fitted on; of more, negatives are sampled and weighted by how many each stands for.
MOST_TRAINING_ROWS = 2_000_000
SCORED_AT_ONCE = 262_144  # rows that trees score in one call

AMOUNT, BOOSTED_ROWS, BOOSTED_HISTORY = "amount", "boosted_rows", "boosted_history"
BASELINES = (AMOUNT, BOOSTED_ROWS, BOOSTED_HISTORY)
DESCRIPTIONS = {
    AMOUNT: "boosted trees on the amount alone",
    BOOSTED_ROWS: "LightGBM on the row alone",
    BOOSTED_HISTORY: "LightGBM on hand-made features of the history",
}


class TableBaselines:
    """Baselines of one table and its windows.

    Each is a model of rows, fitted on the labels of the rows that the training windows are judged on. With a label
    per row, or of the last row, it scores just these rows; the label of any row of a window gets the probability that
    one of the window's rows is positive, as if they were independent: 1 - Π(1 - p).

    Features lie in a temporary file. Boosted trees are fitted on at most two million rows: of more, all positive ones
    and a sample of the others, weighted so that they count as before.

    Args:
        table: encoded rows, the typed rows that they were, and the processor, for the column plan.
        windows: split → windows with labels: "train", "validation" (stops the trees) and those to score.
        threads: of LightGBM; None: all cores.
        old_labels: labels that are features of the history too.

    Raises:
        ValueError: if windows have no labels, or "train" or "validation" is absent.
    """

    def __init__(
        self,
        table: PreparedTable,
        windows: Mapping[str, WindowDataset],
        threads: int | None = None,
        old_labels: OldLabels | None = None,
    ) -> None:
        if absent := [split for split in ("train", "validation") if split not in windows]:
            raise ValueError(
                f"Expected windows of train and validation to fit baselines, found {', '.join(windows) or 'none'}. "
                f"Add {' and '.join(absent)}."
            )
        if table.rows.labels is None:
            raise ValueError(
                "Expected rows with labels to fit baselines on, found a table without a label column. Name it in the "
                "column plan: `label: ...`."
            )
        self.rows, self.plan = table.rows, table.processor.plan
        self.table, self.windows, self.threads = table, dict(windows), threads
        self.old_labels = old_labels
        self.num_classes = len(self.rows.label_names)
        self.judged = {split: self._rows_of(found) for split, found in self.windows.items()}
        self.fitted, self.weights = self._sampled(*self.labelled("train"))
        later = [rows for split, rows in self.judged.items() if split != "train"]
        self.needed = np.unique(np.concatenate([self.fitted, *later]))
        self._features: dict[str, Features] = {}

    def _rows_of(self, windows: WindowDataset) -> np.ndarray:
        """The rows whose scores are needed, `(n,)` increasing."""
        return np.unique(judged_rows(windows, "every" if windows.label == "any" else windows.label).row)

    def _sampled(self, rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Rows that trees are fitted on: all, or every positive and a sample of the others, with their weights."""
        if len(rows) <= MOST_TRAINING_ROWS:
            return rows, None
        kept = labels == 1 if self.num_classes == 2 else np.zeros(len(rows), dtype=bool)
        others = np.flatnonzero(~kept)
        wanted = min(len(others), max(MOST_TRAINING_ROWS - int(kept.sum()), MOST_TRAINING_ROWS // 2))
        drawn = np.random.default_rng(0).choice(others, wanted, replace=False)
        logger.info(
            f"Boosted trees are fitted on {wanted:,} of {len(others):,} training rows"
            + (f", and on all {int(kept.sum()):,} positive ones." if kept.any() else ".")
        )
        weights = np.where(kept, 1.0, len(others) / max(1, wanted))
        chosen = np.sort(np.concatenate([np.flatnonzero(kept), drawn]))
        return rows[chosen], weights[chosen]

    def features(self, name: str) -> Features:
        """Return the features of one of the boosted baselines, for `needed` rows; made once."""
        if name not in self._features:
            training = np.zeros(len(self.rows), dtype=bool)
            training[self.judged["train"]] = True
            chosen = OF_A_ROW if name == BOOSTED_ROWS else GROUPS
            known = ((columns, training[rows]) for rows, columns in read_parts(self.table, self.old_labels))
            statistics = RowStatistics.fit_parts(known, list(chosen), self.old_labels)
            parts = read_parts(self.table, self.old_labels, statistics)
            values = statistics.table_of_parts((columns, self._places_in(rows)) for rows, columns in parts)
            self._features[name] = Features(statistics.names, values, list(range(statistics.categorical)))
        return self._features[name]

    def run(self, name: str, seed: int = 0) -> dict[str, ScoredRows]:
        """Fit a baseline and return the scores of every split but "train".

        Args:
            name: one of `BASELINES`.
            seed: of LightGBM's sampling; the amount alone has nothing random.

        Raises:
            ValueError: if there is no such baseline, or it does not fit the table.
            ImportError: without LightGBM, for the boosted ones.
        """
        if name not in BASELINES:
            raise ValueError(f"Expected a baseline among {', '.join(BASELINES)}, found {name!r}.")
        predict = self._amount() if name == AMOUNT else self._boosted(name, seed)
        return {
            split: self._scored(found, predict(self.judged[split]), self.judged[split])
            for split, found in self.windows.items()
            if split != "train"
        }

    def _amount(self) -> Callable[[np.ndarray], np.ndarray]:
        if self.num_classes != 2:
            raise ValueError(
                f"Expected a label of two classes for the baseline amount, found {self.num_classes or 'no'} classes. "
                "Leave it out of `compare`."
            )
        parts = [(columns.money, columns.numbers) for _, columns in read_parts(self.table)]
        if not parts[0][0]:
            kinds = ", ".join(f"{one.name} ({one.kind})" for one in self.plan.fields)
            raise ValueError(
                f"Expected a field of kind money for the baseline amount, found {kinds}. Make the amount's field "
                "`kind: money` in the column plan, or leave the baseline out of `compare`."
            )
        amounts = np.concatenate([numbers[money[0]] for money, numbers in parts])
        rows, labels = self.labelled("train")
        fitted = AmountTrees(amounts[rows], labels)
        return lambda places: fitted.predict(amounts[places])

    def fit(self, features: Features, seed: int = 0, whole: bool = False) -> BoostedTrees:
        """Fit trees on the labelled training rows, stopped by those of validation.

        Args:
            features: of `needed` rows.
            seed: of the sampling.
            whole: whether they are features of all rows instead.
        """
        assert self.rows.labels is not None
        rows, labels = self.labelled("validation")
        return fit_trees(
            features.select(self.fitted if whole else self._places(self.fitted)),
            np.array(self.rows.labels[self.fitted]),
            (features.select(rows if whole else self._places(rows)), labels),
            self.num_classes,
            seed,
            self.threads,
            self.weights,
        )

    def _boosted(self, name: str, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        import_lightgbm()  # fails early if LightGBM is missing: features take minutes
        features = self.features(name)
        trees = self.fit(features, seed)
        logger.info(trees.summary(seed))

        def predict(rows: np.ndarray) -> np.ndarray:
            blocks = np.array_split(self._places(rows), max(1, -(-len(rows) // SCORED_AT_ONCE)))
            return np.concatenate([trees.predict(features.select(block)) for block in blocks])

        return predict

    def _places(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.needed, rows)

    def _places_in(self, rows: slice) -> np.ndarray:
        """Return the needed rows among some that lie together, by their places there."""
        first, end = np.searchsorted(self.needed, [rows.start, rows.stop])
        return self.needed[first:end] - rows.start

    def labelled(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a split that have a label, and their labels."""
        rows = self.judged[split]
        assert self.rows.labels is not None
        labels = np.array(self.rows.labels[rows])
        known = has_label(labels)
        if not known.any():
            raise ValueError(
                f"Expected {split} rows with a label to fit baselines on, found none in {len(rows)} rows. Choose other "
                "split_fractions."
            )
        return rows[known], labels[known]

    def _scored(self, windows: WindowDataset, scores: np.ndarray, rows: np.ndarray) -> ScoredRows:
        judged = judged_rows(windows)
        if windows.label != "any":
            return scores_of_rows(windows, judged, scores[np.searchsorted(rows, judged.row)])
        first = windows.index.start + windows.index.label_start
        nothing = np.concatenate([[0.0], np.cumsum(np.log1p(-np.minimum(scores, 1 - 1e-12)))])
        begins, ends = np.searchsorted(rows, first), np.searchsorted(rows, judged.row, side="right")
        return scores_of_rows(windows, judged, -np.expm1(nothing[ends] - nothing[begins]))
