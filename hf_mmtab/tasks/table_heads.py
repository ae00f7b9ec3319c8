"""Heads over windows of a table's rows: which model a recipe describes, and what training must know of the labels."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig
from transformers.utils import logging

from ..arguments import TabBertHeadArguments, TableDataArguments
from ..data.windows.cutting import WindowDataset
from ..data.windows.encoded_rows import EncodedRows
from ..evaluation.scored_rows import judged_rows
from ..models.tabbert import (
    TabBertBoostedForSequenceClassification,
    TabBertConfig,
    TabBertFusionForSequenceClassification,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)
from ..models.tabbert.modeling_tabbert_windows import TabBertEncoderWindowModel, TabBertWindowModel
from ..models.tabbert.processing.column_plan import ColumnPlan
from ..statistics import OldLabels, RowStatistics, TableColumns, seconds_of
from ..statistics.features import LABELS, OF_ORDERINGS
from ..statistics.of_all_histories import read_parts
from .prepared_table import PreparedTable

logger = logging.get_logger(__name__)

HEADS: dict[str, type[TabBertWindowModel]] = {
    "lstm": TabBertLstmForSequenceClassification,
    "mlp": TabBertMlpForSequenceClassification,
    "pooled": TabBertPooledForSequenceClassification,
    "raw_lstm": TabBertRawLstmForSequenceClassification,
    "boosted": TabBertBoostedForSequenceClassification,
    "fusion": TabBertFusionForSequenceClassification,
}
WITHOUT_ENCODER = ("raw_lstm", "boosted")
# What an encoder's configuration says and a head on raw cells does not have.
NOT_OF_RAW_CELLS = {"next_row": False, "row_inputs": "states", "auxiliary_next_row": 0.0}
NOT_OF_RAW_CELLS |= dict.fromkeys(("fusion", "trees", "trees_sha256"))
LEARNED_FROM = 100_000  # training rows, from which the scale of statistics is taken
AUTO = "auto"
# Parts of a head's model that hold its encoder.
HEAD_PARTS = ("encoder", "embeddings", "field_encoder", "row_encoder")


def head_model(
    data: TableDataArguments, arguments: TabBertHeadArguments, table: PreparedTable, train: WindowDataset
) -> TabBertWindowModel:
    """Start a head on the encoder of a checkpoint; raw_lstm without one starts from nothing.

    Args:
        data: which windows; kept in the config for prediction.
        arguments: which head.
        table: rows and processor; the processor must be the checkpoint's.
        train: labelled training windows, from which targets get their mean and spread.

    Raises:
        ValueError: if there is no TabBERT checkpoint where one is needed, it has another processor, or the label is
            of another kind than `problem_type` says.
    """
    check_pretrained(arguments)
    settings = head_settings(data, arguments, table, train)
    head = HEADS[arguments.architecture]
    if issubclass(head, TabBertEncoderWindowModel):
        named = [name for name in arguments.row_inputs if name != AUTO]
        settings["row_inputs"] = named[0] if len(named) == 1 else named
        settings["statistics_hidden_size"] = arguments.statistics_hidden_size
        settings["statistics_embedding"] = arguments.statistics_embedding
        settings["auxiliary_next_row"] = arguments.auxiliary_next_row
        if (patterns := arguments.network_statistics) is not None:
            settings["network_statistics"] = [
                name for name in settings["statistics"] or [] if any(fnmatchcase(name, one) for one in patterns)
            ]
        if head is TabBertFusionForSequenceClassification:
            settings["fusion"] = {}
        assert arguments.pretrained is not None  # `check_pretrained` has refused it
        model = head.from_pretrained_encoder(arguments.pretrained, table.processor.fingerprint, **settings)
        if hasattr(model, "numbers"):
            rows = np.unique(judged_rows(train).row)
            rows = rows[:: -(-len(rows) // LEARNED_FROM)]
            model.numbers.learn_quantiles(torch.from_numpy(np.array(train.beside["statistics"][rows])))
        if hasattr(model.model, "surprise"):
            counts = count_values(table.rows, table.processor.vocab_size)
            model.model.surprise.learn_rarity(torch.from_numpy(counts))
        return model
    sizes: dict[str, Any] = {}
    if arguments.pretrained is not None:  # take the width of cells from the encoder
        sizes = TabBertConfig.from_pretrained(arguments.pretrained).to_dict() | NOT_OF_RAW_CELLS
    elif arguments.field_hidden_size is not None:
        # Raw cells go through no attention, so any number of heads fits the width.
        sizes |= {"field_hidden_size": arguments.field_hidden_size, "field_num_heads": 1}
    return head(TabBertConfig.from_dict({**sizes, **table.processor.config_kwargs(), **settings}))


def reads_statistics(arguments: TabBertHeadArguments) -> bool:
    """Tell whether a head reads statistics of the past."""
    return arguments.architecture in ("boosted", "fusion") or "statistics" in arguments.row_inputs


def old_labels(data: TableDataArguments, arguments: TabBertHeadArguments, table: PreparedTable) -> OldLabels | None:
    """Return which labels are statistics of later rows; None: none, the recipe says no `label_lag`.

    Raises:
        ValueError: if `label_lag` is no duration, or the rows have no time.
    """
    if arguments.label_lag is None:
        return None
    plan = table.processor.plan
    if plan.time is None:
        raise ValueError(
            "Expected a time column beside label_lag, found none in the column plan. Name it with time_column, or "
            "leave label_lag out."
        )
    logger.warning(
        f"Labels older than {arguments.label_lag} are statistics: their rates drift, as fraud does, and a new table "
        "needs its own old labels. Compare on later rows with a run without label_lag."
    )
    lag, (first, last) = seconds_of(arguments.label_lag), table.rows.time_bounds
    if plan.time_unit != "number" and len(table.rows) and lag > (span := (last - first) / 1e6):
        raise ValueError(
            f"Expected label_lag below the time that the rows span, {span / 86_400:.3g} days, found "
            f"{arguments.label_lag}: no label would be known to any row. Make it shorter, or leave it out."
        )
    return OldLabels(lag, data.label_columns or list(plan.label), table.rows.label_names)


def take_statistics(arguments: TabBertHeadArguments, plan: ColumnPlan) -> list[str]:
    """Return which statistics a head may read: those of the recipe, which come first, of the plan, or all."""
    if arguments.statistics == [AUTO] and plan.statistics not in ((), (AUTO,)):
        arguments.statistics = list(plan.statistics)
        logger.info(f"Statistics of the past are those of the column plan: {', '.join(plan.statistics)}.")
    return arguments.statistics


def fit_statistics(
    arguments: TabBertHeadArguments, table: PreparedTable, train: WindowDataset, labels: OldLabels | None = None
) -> None:
    """Fit the statistics that a head reads on the rows that training windows are judged on; the processor keeps them.

    Args:
        arguments: which statistics.
        table: with the processor.
        train: training windows.
        labels: that are statistics too.

    Raises:
        ValueError: if a name or pattern fits none, or no statistic is made of the labels.
    """
    training = np.zeros(len(table.rows), dtype=bool)
    training[judged_rows(train).row] = True
    chosen: Any = "auto" if arguments.statistics == [AUTO] else arguments.statistics
    orderings = (table.processor.statistics or {}).get("orderings", {})
    parts = ((columns, training[rows]) for rows, columns in _column_parts(table, labels))
    fitted = RowStatistics.fit_parts(parts, chosen, labels)
    if labels is not None and LABELS not in fitted.groups:
        raise ValueError(
            f"Expected statistics of labels beside label_lag, found none among the chosen ones "
            f"({', '.join(arguments.statistics)}). Add {LABELS} to `statistics`, or leave label_lag out."
        )
    fitted.orderings = orderings if OF_ORDERINGS in fitted.groups else {}
    table.processor.statistics = fitted.to_dict()


def _column_parts(
    table: PreparedTable, labels: OldLabels | None, fitted: RowStatistics | None = None
) -> Iterator[tuple[slice, TableColumns]]:
    for rows, columns in read_parts(table, labels, fitted):
        columns.ordered = {name: values[rows] for name, values in table.ordered.items()}
        columns.of_all |= table.of_all
        yield rows, columns


def beside_ids(table: PreparedTable, statistics: Any, times: bool) -> dict[str, np.ndarray]:
    """Return what windows hold beside ids, see `WindowDataset`.

    Args:
        table: with `rows`, `dataset` and the `processor` that was saved with the model.
        statistics: whether the model reads statistics of the past.
        times: whether it reads the times of the rows.

    Raises:
        ValueError: if the processor has no statistics, or the table lacks a column of them.
    """
    found: dict[str, np.ndarray] = {"times": table.rows.time} if times else {}
    if statistics:
        if table.processor.statistics is None:
            raise ValueError(
                "Expected the statistics that the model was trained with beside its processor, found none. Copy "
                "tabbert_statistics.json from the output_dir of the run that made the model."
            )
        fitted = RowStatistics.from_dict(table.processor.statistics)
        parts = _column_parts(table, fitted.old_labels, fitted)
        found["statistics"] = fitted.table_of_parts((columns, None) for _, columns in parts)
    return found


def count_values(rows: EncodedRows, vocab_size: int) -> np.ndarray:
    """Return how often each id occurs in the training rows, `(vocab_size,)` int64."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for ids in rows.batches_of("train"):
        counts += np.bincount(ids.reshape(-1), minlength=vocab_size)
    return counts


def check_pretrained(arguments: TabBertHeadArguments) -> None:
    """Raise a ValueError unless `pretrained` names a TabBERT checkpoint, where the architecture needs one."""
    if arguments.pretrained is None:
        if arguments.architecture in WITHOUT_ENCODER:
            return
        raise ValueError(
            f"Expected `pretrained`, a TabBERT checkpoint, for architecture {arguments.architecture!r}, found none. "
            "Make one with `python -m hf_mmtab pretrain RECIPE.yaml`, or take architecture: boosted or raw_lstm."
        )
    if arguments.field_hidden_size is not None:
        raise ValueError(
            "Expected no field_hidden_size beside `pretrained`, which has sizes of its own. Remove one of them."
        )
    config = AutoConfig.from_pretrained(arguments.pretrained)
    if not isinstance(config, TabBertConfig):
        raise ValueError(
            f"Expected a TabBERT checkpoint in {arguments.pretrained!r}, found a model of type "
            f"{config.model_type!r}. Name the output_dir of a `pretrain` run, or a converted checkpoint."
        )


def kind_of_labels(data: TableDataArguments, table: PreparedTable) -> tuple[str, list[str]]:
    """Return the `problem_type` of a table's labels, and the names of the classes (of numbers: of the targets)."""
    if table.rows.label_names:
        return "single_label_classification", list(table.rows.label_names)
    return "regression", list(data.label_columns or table.processor.plan.label)


def head_settings(
    data: TableDataArguments, arguments: TabBertHeadArguments, table: PreparedTable, train: WindowDataset
) -> dict[str, Any]:
    """Return the head's part of the configuration.

    Raises:
        ValueError: if the label is of another kind than `problem_type` says.
    """
    problem_type, names = kind_of_labels(data, table)
    if arguments.problem_type not in (None, problem_type):
        remedy = (
            "give the column a type in the recipe: `types: {COLUMN: float}`"
            if problem_type != "regression"
            else "name a column of classes"
        )
        raise ValueError(
            f"Expected labels for problem_type {arguments.problem_type!r}, found {problem_type} of "
            f"{', '.join(names)}. Remove `problem_type`, or {remedy}."
        )
    settings: dict[str, Any] = {
        "problem_type": problem_type,
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "classification_loss": arguments.classification_loss,
        "lstm_hidden_size": arguments.lstm_hidden_size,
        "lstm_num_layers": arguments.lstm_num_layers,
        "lstm_bidirectional": arguments.lstm_bidirectional,
        "lstm_dropout": arguments.lstm_dropout,
        "mlp_hidden_sizes": arguments.mlp_hidden_sizes or None,
        "pooling": arguments.pooling,
        "classifier_dropout": arguments.classifier_dropout,
        "label_level": "row" if train.label == "every" else "window",
        "seq_len": data.seq_len,
        "eval_stride": data.eval_stride if train.label == "every" else None,
        "window_label": train.label,
        "max_gap": data.max_gap,
        "threshold": None,
        "statistics": (table.processor.statistics or {}).get("names"),
        "statistics_codes": (table.processor.statistics or {}).get("categorical", 0),
    }
    if problem_type == "regression":
        known = [part.rows.labels[np.unique(judged_rows(part).row)] for part in train.parts()]  # type: ignore[index]
        targets = np.concatenate(known).astype(np.float64)
        settings["target_mean"] = np.nanmean(targets, axis=0).tolist()
        settings["target_std"] = [float(spread) or 1.0 for spread in np.nanstd(targets, axis=0)]
    return settings
