"""What a run on a table found: numbers of every split, predictions on disk, and the words about them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import Trainer

from ..data.windows import WindowDataset
from ..evaluation.row_evaluation import ResampleBy, evaluate_rows, headline
from ..evaluation.scored_rows import ScoredRows, scored_rows
from ..metrics.names import metric_name
from ..reports.page import PAGE_NAME
from ..tasks.table_labels import count_positive
from .console import counted
from .run_report import PREDICTIONS_FOLDER, REPORT_FOLDER

FAR_OFF = 5.0  # mean score over share of positives, or the reverse: no longer probabilities
JUDGED_WORDS = {"last": "the last", "any": "any of them", "every": "every one"}


def predict_windows(trainer: Trainer, windows: WindowDataset, config: Any) -> ScoredRows:
    """Return the scores of the rows that windows are judged on; the trainer's processes share the work."""
    computed, trainer.compute_metrics = trainer.compute_metrics, None  # belongs to the validation windows
    try:
        output = trainer.predict(windows)  # type: ignore[arg-type]
    finally:
        trainer.compute_metrics = computed
    return scored_rows(windows, logits_of(output.predictions), config.problem_type)


def logits_of(predictions: Any) -> np.ndarray:
    """Return the logits among a model's outputs."""
    return predictions[0] if isinstance(predictions, tuple) else predictions


def predictions_file(folder: Path, split: str) -> Path:
    """Return where the scored rows of a split lie."""
    return folder / PREDICTIONS_FOLDER / f"{split}.parquet"


def split_results(
    scored: Mapping[str, ScoredRows], config: Any, main_split: str, bootstrap: int, resample_by: ResampleBy
) -> dict[str, Any]:
    """Return what `results.json` says about the scores of each split, at the threshold of the config.

    Args:
        scored: split → scored rows.
        config: of the model.
        main_split: gets intervals; the others are for choosing.
        bootstrap: resamples behind the intervals.
        resample_by: what they draw, see `hf_mmtab.evaluation.row_evaluation.resampling_groups`.
    """
    found = {
        split: evaluate_rows(
            rows,
            config.problem_type,
            config.id2label,
            config.threshold,
            resample_by,
            bootstrap=bootstrap if split == main_split else 0,
        )
        for split, rows in scored.items()
    }
    return {
        "split": main_split,
        "problem_type": config.problem_type,
        "num_labels": config.num_labels,
        "window_label": config.window_label,
        "seq_len": config.seq_len,
        "thresholds": None if config.threshold is None else [config.threshold],
        "metrics": {split: one.metrics for split, one in found.items()},
        "intervals": {
            split: {name: dataclasses.astuple(interval) for name, interval in one.intervals.items()}
            for split, one in found.items()
        },
        "resampled_by": found[main_split].resampled_by,
        "judged": {split: _judged(rows) for split, rows in scored.items()},
        "ablation": [],
    }


def _judged(scored: ScoredRows) -> dict[str, int]:
    rows = scored.labelled
    assert rows.labels is not None
    counts = {"rows": len(rows)}
    return counts | ({"positives": int((rows.labels == 1).sum())} if rows.scores.ndim == 1 else {})


def describe_windows(windows: Mapping[str, WindowDataset], seq_len: int, window_label: str) -> str:
    """Return the line about rows and windows, with how many are positive."""
    rows = next(iter(windows.values())).rows
    parts = []
    for split, found in windows.items():
        positive = count_positive(found)
        parts.append(
            f"{len(found):,} {split}" + (f" ({positive:,} positive)" if positive is not None else "")
        )
    return (
        f"{len(rows):,} rows of {counted(len(rows.entity_starts), 'history', 'histories')}; "
        f"windows of {seq_len} rows, judged on {JUDGED_WORDS[window_label]}: {', '.join(parts)}"
    )


def pretraining_note(pretrained: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Say if an encoder was pretrained on the same table under another split: it may have seen rows that are judged.

    Args:
        pretrained: recipe of the encoder; empty if it has none.
        mine: recipe of the run.
    """
    defaults = {"split": "time", "split_fractions": [], "split_seed": 0, "simulate": None}
    if not pretrained or pretrained.get("data") != mine.get("data"):
        return []
    other = [name for name, value in defaults.items() if pretrained.get(name, value) != mine.get(name, value)]
    if not other:
        return []
    return [
        f"The encoder was pretrained on this table with another {' and '.join(other)}: it has seen, without their "
        "labels, rows that are judged here."
    ]


def length_note(pretrained: Mapping[str, Any], seq_len: int) -> list[str]:
    """Say if windows are longer than those that an encoder was pretrained on: it has never met the later positions.

    Args:
        pretrained: recipe of the encoder; empty if it has none.
        seq_len: rows of a window of the run.
    """
    learned = pretrained.get("seq_len")
    if learned is None or learned >= seq_len:
        return []
    return [
        f"Windows of {seq_len} rows are longer than the {learned} of pretraining: the encoder's positions from row "
        f"{learned + 1} on are as they were drawn. Pretrain with this seq_len, shorten it, or thaw the encoder."
    ]


def later_rows_note(config: Any, has_encoder: bool) -> list[str]:
    """Say where a score may know what came after its row.

    Args:
        config: of the model.
        has_encoder: false for an LSTM on raw cells.
    """
    reads_on = config.lstm_bidirectional or (has_encoder and not config.next_row)
    if config.window_label != "every" or not reads_on:
        return []
    return [
        "With a label for every row, this model also reads rows of the window that come after the judged one: these "
        "numbers hold for judging afterwards, not for judging a row when it happens. For that use window_label: last, "
        "or an encoder pretrained with next_row: true and lstm_bidirectional: false."
    ]


def score_note(metrics: Mapping[str, float]) -> list[str]:
    """Say if probabilities of the positive class are far from how often it occurs."""
    mean, share = metrics.get("mean_score", 0.0), metrics.get("positive_rate", 0.0)
    if not mean or not share or 1 / FAR_OFF < mean / share < FAR_OFF:
        return []
    return [
        f"The mean predicted probability is {mean:.2%}, and {share:.2%} of the test rows are positive: read scores as "
        "a ranking, not as probabilities. Longer training usually brings them together."
    ]


def summarise(folder: Path, results: Mapping[str, Any]) -> str:
    """Return the closing words of a run or evaluation."""
    split = results["split"]
    metrics, intervals, counts = (results[key][split] for key in ("metrics", "intervals", "judged"))
    told = f"{counts['rows']:,} rows" + (
        f", {counts['positives']:,} positive" if "positives" in counts else ""
    )
    lines = [f"\nResults on {split} ({told}), {results['minutes']:.1f} minutes:"]
    for name in headline(results["problem_type"], results["num_labels"]):
        if name in metrics:
            value = f"{metrics[name]:.3f}"
            if name in intervals:
                value += " ({:.3f}–{:.3f})".format(*intervals[name][1:3])
            lines.append(f"  {metric_name(name):32} {value}")
    lines += [
        f"  {metric_name(name):32} {value:.3f}" for name, value in metrics.items() if name.startswith("rmse/")
    ]
    if results["thresholds"]:
        lines.append(f"  {'threshold':32} {results['thresholds'][0]:.3f} (chosen on validation)")
    lines += [f"Model, processor and card: {folder}"] if (folder / "config.json").exists() else []
    return "\n".join([*lines, f"Report: {folder / REPORT_FOLDER / PAGE_NAME}"])
