"""Boosted trees on statistics of the past as a model of their own, and joined with a sequence model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from transformers.utils import logging

from ...data.windows.cutting import IGNORED, WindowDataset
from ...data.windows.encoded_rows import EncodedRows
from ...evaluation.scored_rows import judged_rows
from ...metrics.bootstrap import PairedDifference, paired_bootstrap
from ...models.tabbert.modeling_tabbert_boosted import CANDIDATES, FUSED, OF_NUMBERS, STATISTICS
from ...models.tabbert.modeling_tabbert_numbers import normal_quantiles, normal_scores
from ...models.tabbert.modeling_tabbert_surprise import surprise_names, windowed_names
from ...models.tabbert.tree_files import import_lightgbm
from ...statistics import RowStatistics
from ...table_baselines import TableBaselines
from ...table_baselines.boosting import Features, fit_trees
from ...tasks.table_heads import AUTO
from ...training.precision import ComputeChoice
from ..tables.window_blocks import judged_values
from .trial import trained_trial

logger = logging.get_logger(__name__)

FAR_BETTER = 1.1  # of a regression: by which factor the mean's RMSE must exceed a half's for the half to be taken


def check_trees(run: Any) -> None:
    """Check before hours of training that trees can be fitted after it.

    Args:
        run: a `HeadRun` whose table is read.

    Raises:
        ValueError: if the label is of another kind than they take, too few rows are positive, or several processes
            train.
        ImportError: without LightGBM.
    """
    recipe, table = run.recipe, run.table
    name = recipe.model.architecture
    if name not in ("boosted", "fusion"):
        return
    import_lightgbm()
    if recipe.run.window_label == "any":
        raise ValueError(
            f"Expected window_label last or every for architecture {name}, which judges rows, found any. Change it."
        )
    if name == "fusion" and len(table.rows.label_names) not in (0, 2):
        raise ValueError(
            f"Expected a label of two classes or of numbers for architecture fusion, found "
            f"{len(table.rows.label_names)} classes. Use architecture: boosted or lstm."
        )
    if name == "fusion" and not can_be_joined(run):
        raise ValueError(
            "Expected training rows of both classes before and after a moment to fit a fusion, found "
            f"{int(run.windows['train'].class_counts()[:, 1].sum())} positive ones. Use architecture: boosted or "
            "lstm, or more rows."
        )
    given = [key for key in ("fusion_method", "fusion_folds") if key in recipe.values]
    if name == "fusion" and not table.rows.label_names and given:
        raise ValueError(
            f"Expected no {' and '.join(given)} with a label of numbers, found it: a fusion predicts the mean of both "
            "halves. Take it out."
        )
    if recipe.training.world_size > 1:
        raise ValueError(
            f"Expected one process for architecture {name}, found {recipe.training.world_size}. Start it without "
            "torchrun."
        )


def features_of_rows(run: Any) -> Features:
    """Return the statistics of all rows of a run's table, as trees read them."""
    statistics = RowStatistics.from_dict(run.processor.statistics)
    values = run.windows["train"].beside["statistics"]
    return Features(statistics.names, values, list(range(statistics.categorical)))


def fit_boosted(run: Any, model: Any) -> None:
    """Fit trees on the statistics of the training rows into a model."""
    baselines = TableBaselines(run.table, run.windows)
    trees = baselines.fit(features_of_rows(run), run.recipe.training.seed, whole=True)
    model.set_trees(STATISTICS, trees.boosters)
    run.notes.append(f"Boosted: {trees.summary(run.recipe.training.seed)}")


def fuse(run: Any, trainer: Any) -> None:
    """Join the trained sequence model with boosted trees, by a logistic regression unless another way is far better.

    What is fitted on the sequence model's scores is fitted on scores of rows that it had not learned from: it is
    trained anew up to a moment and scores the training rows after it, several times (`fusion_folds`). The first rows
    have no such score and are left out there.

    Args:
        run: a `HeadRun` whose sequence model is trained; its config gets `fusion`.
        trainer: with the model.
    """
    model = trainer.model
    fit_boosted(run, model)
    features = features_of_rows(run)
    if model.config.problem_type == "regression":
        join_numbers(run, model, features, *judged_inputs(trainer, run.windows["validation"]))
        return
    inputs = {split: judged_inputs(trainer, run.windows[split]) for split in ("train", "validation")}
    rows, numbers, labels = _known(run, *inputs["train"])
    times, seed = np.array(run.table.rows.time[rows]), run.recipe.training.seed
    rounds = [booster.num_trees() for booster in model.boosters[STATISTICS]]
    scored, halves, extras = [], [], []
    for begin, before, after in folds(times, labels, run.recipe.model.fusion_folds):
        logger.info(f"Fusion: the LSTM is trained anew on {int(before.sum()):,} of {len(times):,} labelled rows.")
        own = sequence_up_to(run, int(begin), trainer.choice)
        boosted = fit_trees(features.select(rows[before]), labels[before], rounds, 2, seed)
        places = np.flatnonzero(after)
        odds = own[places]
        trees_odds = boosted.log_odds(features.select(rows[places]))
        scored.append(places)
        halves.append(np.stack([odds, trees_odds], axis=1))
        extras.append(np.concatenate([odds[:, None], numbers[places, 1:]], axis=1))
    out, both, more = np.concatenate(scored), np.concatenate(halves), np.concatenate(extras)
    judged, known, truth = _known(run, *inputs["validation"])
    fusion: dict[str, Any] = {"chosen": "stack", "weights": {}}
    ranks = torch.from_numpy(both)
    fusion["quantiles"] = normal_quantiles(ranks).tolist()
    ranked = normal_scores(ranks, torch.tensor(fusion["quantiles"])).numpy()
    fusion["weights"]["stack"] = _logistic(both, labels[out])
    equal = _logistic(ranked.mean(axis=1, keepdims=True), labels[out])
    fusion["weights"]["rank_average"] = [equal[0] / 2, equal[0] / 2, equal[1]]
    stops = _beside(features, judged, known, model.config), truth
    joined = fit_trees(_beside(features, rows[out], more, model.config), labels[out], stops, 2, seed)
    model.set_trees(FUSED, joined.boosters)
    model.config.fusion = fusion
    statistics, others = torch.from_numpy(features.select(judged).read()), torch.from_numpy(known)
    scores = {name: model.fuse(name, statistics, others)[..., 0].numpy() for name in CANDIDATES}
    entity = np.searchsorted(run.table.rows.entity_starts, judged, side="right")
    chosen = run.recipe.model.fusion_method
    if told := chosen == AUTO:
        chosen = far_better_than_stack(truth, scores, entity)
        if chosen == "stack" and fusion["weights"]["stack"][0] == 0:
            chosen = "boosted"  # which then ranks rows as the stack does, without the encoder
    found = {name: float(average_precision_score(truth, own)) for name, own in scores.items()}
    model.config.fusion = {**fusion, "chosen": chosen, "validation": found}
    run.notes.append(fusion_note(model.config.fusion, told))
    if chosen != "boosted":
        run.notes.append(worth(ahead(truth, scores[chosen], scores["boosted"], entity)))
    if chosen == "trees":
        run.notes.append(f"Fusion: {joined.summary(seed)}")


def far_better_than_stack(labels: np.ndarray, scores: dict[str, np.ndarray], entity: np.ndarray) -> str:
    """Return how to score: by the stack, unless another way is ahead of it on validation by more than chance.

    The stack is fitted on scores of training rows, and gives a half that says nothing little weight. Which way has
    the best number on a hundred positive rows of validation is mostly chance.

    Args:
        labels: of validation rows, `(rows,)`, 0 and 1.
        scores: name of `CANDIDATES` → log odds, `(rows,)`.
        entity: see `ahead`.
    """
    leads = {name: ahead(labels, own, scores["stack"], entity) for name, own in scores.items() if name != "stack"}
    best = max(leads, key=lambda name: leads[name].low)
    return best if leads[best].low > 0 else "stack"


def join_numbers(run: Any, model: Any, features: Features, rows: np.ndarray, predicted: np.ndarray) -> None:
    """Let a regression predict the mean of both halves, unless one of them is far better on validation.

    A few months of validation tell badly which half is the better one later; the mean is never far from it.

    Args:
        run: see `fuse`.
        model: with fitted trees; its config gets `fusion`.
        features: of all rows.
        rows: that validation judges, `(rows,)`.
        predicted: what the sequence model predicts for them, `(rows, targets)`.
    """
    labels = np.array(run.table.rows.labels[rows])
    statistics, others = torch.from_numpy(features.select(rows).read()), torch.from_numpy(predicted)
    fusion: dict[str, Any] = {"chosen": "average", "weights": {"average": [0.5, 0.5, 0.0]}}
    model.config.fusion = fusion
    found = {}
    for name in OF_NUMBERS:
        errors = model.fuse(name, statistics, others).numpy() - labels  # NaN where a label is missing
        found[name] = float(np.sqrt(np.nanmean(errors**2)))
    best = min(found, key=lambda name: found[name])
    chosen = best if found[best] * FAR_BETTER < found["average"] else "average"
    model.config.fusion = {**fusion, "chosen": chosen, "validation": found}
    told = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    how = "the mean of both halves" if chosen == "average" else f"{chosen} alone, far better than the mean of both"
    run.notes.append(f"Predicted is {how}; RMSE on validation: {told}.")


def fusion_note(fusion: dict[str, Any], by_rule: bool) -> str:
    """Say how the halves are joined, why, and what each way came to on validation.

    Args:
        fusion: of the config.
        by_rule: whether `far_better_than_stack` decided, and not the recipe.
    """
    chosen = fusion["chosen"].replace("_", " ")
    told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in fusion["validation"].items())
    if not by_rule:
        why = "as fusion_method says"
    elif fusion["chosen"] == "stack":
        why = "fitted on training rows, since no other way is ahead of it on validation by more than chance"
    elif fusion["chosen"] == "boosted" and fusion["weights"]["stack"][0] == 0:
        why = "since the LSTM told nothing of training rows that it had not learned from"
    else:
        why = "which is ahead of the stack on validation by more than chance"
    decide = " To decide otherwise: fusion_method." if by_rule else ""
    return f"Scores are those of {chosen}, {why}; average precision on validation: {told}.{decide}"


def ahead(labels: np.ndarray, first: np.ndarray, second: np.ndarray, entity: np.ndarray) -> PairedDifference:
    """Return by how much one model's average precision is above another's.

    Args:
        labels: `(rows,)`, 0 and 1.
        first, second: their log odds, `(rows,)`.
        entity: `(rows,)` number of the history, by which rows are resampled.
    """
    one, other = (np.stack([1 - p, p], axis=1) for p in (expit(first), expit(second)))
    return paired_bootstrap("average_precision", labels, one, other, "single_label_classification", groups=entity)


def worth(lead: PairedDifference) -> str:
    """Say by how much the fusion is ahead of boosted trees on validation, and whether that is more than chance."""
    told = f"On validation the fusion is ahead of boosted trees alone by {lead} average precision"
    if lead.low > 0:
        return f"{told}."
    return f"{told}, which may be chance: architecture boosted may do as well, in less time and without an encoder."


def _logistic(inputs: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return weights and, last, the bias of a logistic regression; of two inputs one with a weight below 0 gets none.

    Scores of a half that has learned nothing are noise, and rank the other way round by chance.
    """
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(inputs, labels)
    weights = fitted.coef_[0]
    if len(weights) > 1 and weights.min() < 0:
        weight, bias = _logistic(inputs[:, [best := int(weights.argmax())]], labels)
        return [weight if place == best else 0.0 for place in range(len(weights))] + [bias]
    return [*map(float, weights), float(fitted.intercept_[0])]


def _beside(features: Features, rows: np.ndarray, more: np.ndarray, config: Any) -> Features:
    """Return the statistics of some rows with what `tree_inputs` gave for them behind."""
    values = np.concatenate([features.select(rows).read(), more.astype(np.float32)], axis=1)
    names = ["TabBERT: log odds"]
    if more.shape[1] > 1:
        told = [*surprise_names(config), *windowed_names(config)]
        names += [f"TabBERT: {name}" for name in told]
    return Features([*features.names, *names], values, features.categorical)


def _known(run: Any, rows: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows that have a label, their inputs and labels."""
    labels = np.array(run.table.rows.labels[rows]).astype(np.int64)
    known = labels != IGNORED
    return rows[known], inputs[known], labels[known]


def folds(times: np.ndarray, labels: np.ndarray, count: int) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Return moments, what is fitted before each and what is scored after it (masks); none if no fusion can be fitted.

    Args:
        times: of the labelled training rows.
        labels: of them, 0 and 1.
        count: see `rolling`.
    """
    cut = [(begin, times < begin, (times >= begin) & (times < end)) for begin, end in rolling(times, count)]
    usable = [one for one in cut if len(np.unique(labels[one[1]])) == 2 and one[2].any()]
    scored = [labels[after] for _, _, after in usable]
    return usable if scored and len(np.unique(np.concatenate(scored))) == 2 else []


def can_be_joined(run: Any) -> bool:
    """Whether a run's labels are numbers, or of two classes that both come before and after a moment of a fusion."""
    if not run.table.rows.label_names:
        return True
    rows = judged_rows(run.windows["train"]).row
    rows, _, labels = _known(run, rows, rows)
    return bool(folds(np.array(run.table.rows.time[rows]), labels, run.recipe.model.fusion_folds))


def rolling(times: np.ndarray, folds: int) -> Iterator[tuple[float, float]]:
    """Yield moments between which rows are scored by what was fitted before the first of the two.

    Args:
        times: of the training rows.
        folds: how many; the rows before the first moment are never scored.
    """
    cuts = np.quantile(times, np.arange(1, folds + 1) / (folds + 1), method="inverted_cdf")
    ends: Sequence[float] = [*cuts[1:].tolist(), np.inf]
    yield from ((begin, end) for begin, end in zip(cuts.tolist(), ends, strict=True) if begin < end)


@torch.inference_mode()
def judged_inputs(trainer: Any, windows: WindowDataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the judged rows of windows and `TabBertFusionForSequenceClassification.tree_inputs` of each."""
    model = trainer.model.eval()
    pieces = []
    for batch in trainer.get_test_dataloader(windows):
        batch.pop("labels", None)
        pieces.append(model.tree_inputs(**batch).cpu())
    judged = judged_rows(windows)
    if windows.label == "every":
        return judged.row, judged_values(pieces, judged)
    return judged.row, np.concatenate(pieces)


def sequence_up_to(run: Any, moment: int, choice: ComputeChoice) -> np.ndarray:
    """Train the sequence model on labels before a moment; return its log odds of all labelled training rows.

    Args:
        run: see `fuse`.
        moment: in microseconds.
        choice: how the run computes.
    """
    train = run.windows["train"]
    early = train.with_rows(labels_before(train.rows, moment))
    own = {"eval_strategy": "no", "row_inputs": run.recipe.model.row_inputs, "precision": choice.precision}
    with trained_trial(run, early, **own) as (trial, trainer):
        trial.correct_prior(trainer.model)  # as the whole model's were
        return _known(run, *judged_inputs(trainer, train))[1][:, 0]


def labels_before(rows: EncodedRows, moment: int) -> EncodedRows:
    """Return the same rows, but without labels from a moment on."""
    assert rows.labels is not None
    return rows.relabelled(np.where(np.array(rows.time) < moment, rows.labels, IGNORED).astype(rows.labels.dtype))
