"""`pipeline("image-text-classification")` and `pipeline("tabular-sequence-classification")` of transformers."""

# The base class declares its parts as None and its steps with no parameters of their own.
# mypy: disable-error-code="override"

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .data.picture_addresses import fetch_picture, is_address
from .data.windows import DEFAULT_SEQ_LEN, WindowIndex, cut_growing, cut_windows
from .models.mmbt import MMBTCollator
from .models.tabbert.column_plan import ColumnPlan
from .models.tabbert.values import as_table, column, microseconds
from .statistics import RowStatistics, columns_of_history
from .statistics.features import OF_ALL_HISTORIES

logger = logging.get_logger(__name__)

IMAGE_TEXT_TASK = "image-text-classification"
TABULAR_TASK = "tabular-sequence-classification"
KEYS = {"image", "text", "text_pair", "sentence1", "sentence2", "label", "labels", "id"}  # of an example
# Parameter of the pipeline → of `fetch_picture`.
DOWNLOAD = {
    "download_seconds": "seconds",
    "max_download_bytes": "max_bytes",
    "allow_private_redirects": "allow_private",
}
DEFAULT_THRESHOLD = 0.5
# The default of `top_k`: what the model decides at its own thresholds.
DECIDED: Literal["decided"] = "decided"

Answer = dict[str, Any]  # label and score
TopK = int | Literal["decided"] | None


@dataclass(frozen=True)
class RightPadding:
    """What transformers' batching asks of a tokenizer."""

    pad_token_id: int
    padding_side: str = "right"


def answers(logits: torch.Tensor, config: Any, top_k: TopK) -> Answer | list[Answer]:
    """Turn the logits `(labels,)` of one example into labels and scores.

    Args:
        logits: of one example.
        config: of the model: problem type, names, thresholds that were tuned on validation.
        top_k: so many labels with the highest scores, None: all. "decided": the one label that the model decides for,
            of several labels those that reach their thresholds.

    Returns:
        `{"label", "score"}`, or a list of them with the highest score first. The score is a probability; of a
        regression the value itself, with the name of the target as label.
    """
    names = [config.id2label[i] for i in range(len(logits))]
    if config.problem_type == "regression":
        found = [{"label": name, "score": value} for name, value in zip(names, logits.tolist(), strict=True)]
        return found[0] if len(found) == 1 else found
    several = config.problem_type == "multi_label_classification"
    scores = logits.float().sigmoid() if several else logits.float().softmax(dim=-1)
    ranked = scores.argsort(descending=True, stable=True).tolist()
    if top_k == DECIDED:
        chosen = decided_labels(scores, config)
        ranked = [label for label in ranked if label in chosen]
    else:
        ranked = ranked[:top_k]
    listed = [{"label": names[label], "score": float(scores[label])} for label in ranked]
    return listed[0] if top_k == DECIDED and not several else listed


def decided_labels(scores: torch.Tensor, config: Any) -> list[int]:
    """Return the label that a model decides for; of several labels those that reach their thresholds.

    Args:
        scores: probabilities `(labels,)` of one example.
        config: of the model; MMBT has a threshold per label, TabBERT one for the positive of two classes.
    """
    thresholds = getattr(config, "thresholds", None)
    if config.problem_type == "multi_label_classification":
        cuts = torch.tensor(thresholds or DEFAULT_THRESHOLD)
        return (scores >= cuts).nonzero()[:, 0].tolist()
    cut = thresholds[0] if thresholds else getattr(config, "threshold", None)
    if cut is not None and len(scores) == 2:
        return [int(float(scores[1]) >= cut)]
    return [int(scores.argmax())]


class SavedWithProcessor(Pipeline):
    """What both pipelines share: one processor, padding to the right, and saving both parts."""

    model: Any
    processor: Any
    tokenizer: Any
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Judge one input, or a list of them; see the class."""
        if isinstance(inputs, list) and not inputs:  # of which the base class asks for the first
            return []
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model and processor; loading them takes this package."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class ImageTextClassificationPipeline(SavedWithProcessor):
    """Classify pictures with their texts: MMBT and its baselines.

    Example:

    ```python
    import hf_mmtab
    from transformers import pipeline

    classify = pipeline("image-text-classification", model="outputs/openclipart/mmbt-seed1")
    classify({"image": "fork.png", "text": "a fork on a plate"})  # {"label": "food", "score": 0.93}
    classify([{"image": None, "text": "a fork"}, {"image": photo, "text": ""}], batch_size=2, top_k=3)
    ```

    Input: a mapping (or a list, a generator, a torch dataset of them) with `image` (path, address, bytes, PIL picture,
    array; None or left out: missing) and `text`, and `text_pair` for models of pairs; rows of our data sets too.
    Output: `{"label", "score"}` at the thresholds in the config; of a model with several labels a list of those that
    reach theirs. `top_k=3` gives the three best, `top_k=None` all.
    A picture behind an address is fetched within `download_seconds=20` and `max_download_bytes=50_000_000`; a redirect
    into the own network is refused unless `allow_private_redirects=True`.

    Raises:
        ValueError: if an input is no such mapping, lacks the text that the model reads, or has a picture that cannot
            be read or fetched.
    """

    _load_processor = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collator = MMBTCollator(self.processor)
        self.tokenizer = RightPadding(self.collator.pad_token_id)

    def _sanitize_parameters(self, top_k: TopK = DECIDED, **others: Any) -> tuple[dict, dict, dict]:
        download = {DOWNLOAD[name]: others.pop(name) for name in DOWNLOAD if name in others}
        refuse_unknown(others)
        return download, {}, {} if top_k == DECIDED else {"top_k": top_k}

    def preprocess(self, example: Any, **download: Any) -> dict[str, torch.Tensor]:
        """Encode one example as a batch of one."""
        row = as_row(example, **download)
        if "sentence2" in row and getattr(self.model.config, "num_segments", 3) < 3:
            raise ValueError(
                "Expected one text, found a pair, but the model was trained on single texts (num_segments 2 in its "
                "config). Leave text_pair out, or join both texts into one."
            )
        return self.collator([self.processor.encode_row(row)])

    def _forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"logits": self.model(**inputs).logits}

    def postprocess(self, outputs: dict[str, torch.Tensor], top_k: TopK = DECIDED) -> Any:
        """Name the labels of one example."""
        return answers(outputs["logits"][0], self.model.config, top_k)


def as_row(example: Any, **download: Any) -> dict[str, Any]:
    """Return an example of the pipeline as a row of a picture-and-text data set.

    Args:
        example: what a user passed.
        download: of `fetch_picture`, where the picture is a web address.
    """
    if not isinstance(example, Mapping):
        raise ValueError(
            'Expected a mapping such as {"image": "fork.png", "text": "a fork on a plate"}, found '
            f"{type(example).__name__}. Pass one, or a list of them."
        )
    unknown = sorted(set(example) - KEYS)
    if unknown and "image" not in example:
        raise ValueError(
            f"Expected the picture under `image` (None for no picture), found {', '.join(map(repr, unknown))}. Rename "
            "the key."
        )
    row = {name: value for name, value in example.items() if name not in ("label", "labels")}
    if (second := row.pop("text_pair", None)) is not None:
        row |= {"sentence1": row.pop("text", ""), "sentence2": second}
    if is_address(row.get("image")):
        row["image"] = fetch_picture(row["image"], **download)
    return row


class TabularSequenceClassificationPipeline(SavedWithProcessor, ChunkPipeline):
    """Classify histories of table rows: a head on TabBERT.

    Example:

    ```python
    import hf_mmtab
    import polars
    from transformers import pipeline

    score = pipeline("tabular-sequence-classification", model="outputs/payments_finetune")
    payments = polars.read_csv("payments.csv", try_parse_dates=True).sort("booked_at")
    score(payments.filter(polars.col("account") == 7))  # {"label": "no", "score": 0.9998}, of the last row
    score(payments.partition_by("account"), rows="every", batch_size=32)  # a list per history, an answer per row
    ```

    Input: one history, that is the rows of one entity with the oldest first (polars, pandas or pyarrow table, dict of
    lists, `datasets.Dataset`), or a list of histories. They have the columns that the reader of training gave: card and
    PRSA files are read with `CardTransactions` and `PRSA` first. `rows="last"` (default) judges the last row by the
    rows before it, `"every"` each row by the rows before it; a model of windows ("any row of these") judges the window
    that ends there. Windows are those of the `predict` command, so are the scores. A model that reads statistics of the
    past gets those of this history alone: what other histories had lately at the same value is missing, for which
    `predict` reads the whole table.
    Output: `{"label", "score"}`, with two classes at the threshold in the config; `top_k` as usual; of a regression the
    value of each target.

    Raises:
        ValueError: if a table holds several entities, is empty or out of order, lacks a column, or if the processor is
            not the one that the model was trained with.
    """

    # What transformers takes a processor of one kind of input for. None: it is loaded where there is one.
    _load_feature_extractor: Any = None

    def __init__(
        self, model: Any, processor: Any = None, feature_extractor: Any = None, **kwargs: Any
    ) -> None:
        processor = processor if processor is not None else feature_extractor
        if processor is None and not model.name_or_path:
            raise ValueError(
                "Expected the processor that the model was trained with, found none: the model was not loaded from a "
                "folder. Pass processor=TabBertProcessor.from_pretrained(...)."
            )
        if processor is None or isinstance(processor, str):
            processor = AutoProcessor.from_pretrained(processor or model.name_or_path)
        super().__init__(model=model, processor=processor, **kwargs)
        self.model.check_processor(self.processor.fingerprint)
        self.tokenizer = RightPadding(self.processor.pad_token_id)

    def _sanitize_parameters(
        self, top_k: TopK = DECIDED, rows: str | None = None, **unknown: Any
    ) -> tuple[dict, dict, dict]:
        refuse_unknown(unknown)
        if rows not in (None, "last", "every"):
            raise ValueError(f'Expected rows to be "last" or "every", found {rows!r}.')
        chosen = {} if rows is None else {"rows": rows}
        return chosen, {}, {} if top_k == DECIDED else {"top_k": top_k}

    def preprocess(self, history: Any, rows: str = "last") -> Iterator[dict[str, Any]]:
        """Cut one history into windows, and yield each as a batch of one."""
        table = as_table(history)
        if table.num_rows == 0:
            raise ValueError("Expected a history of at least one row, found a table without rows.")
        ids = self.processor(table, return_tensors="pt")["input_ids"]  # (1, rows, fields)
        plan, beside = self.processor.plan, {}
        if getattr(self.model, "reads_times", False):
            beside["times"] = moments(table, plan)
        if self.model.config.statistics:
            beside["statistics"] = self.statistics.table(columns_of_history(table, plan))
        index = self.windows(segments_of(table, self.processor.plan, self.model.config.max_gap))
        chosen = range(len(index)) if rows == "every" else [len(index) - 1]
        for number in chosen:
            start, length = int(index.start[number]), int(index.length[number])
            yield {
                "input_ids": ids[:, start : start + length],
                "attention_mask": torch.ones(1, length, dtype=torch.long),
                **{
                    name: torch.tensor(rows_of[start : start + length][None])
                    for name, rows_of in beside.items()
                },
                "first_judged": int(index.label_start[number]) if rows == "every" else length - 1,
                "length": length,
                "rows": rows,
                "is_last": number == chosen[-1],
            }

    @cached_property
    def statistics(self) -> RowStatistics:
        """Statistics of the past, as they were fitted with the model."""
        if self.processor.statistics is None:
            raise ValueError(
                "Expected the statistics that the model was trained with in its processor, found none. Load the "
                "processor from the model's folder, with tabbert_statistics.json."
            )
        if not set(self.processor.statistics["groups"]).isdisjoint(OF_ALL_HISTORIES):
            logger.warning(
                "Some statistics of this model count rows of all histories; the pipeline sees one history at a time. "
                "For the scores of training use the command `predict` on the whole table."
            )
        return RowStatistics.from_dict(self.processor.statistics)

    def windows(self, bounds: np.ndarray) -> WindowIndex:
        """Return the windows of one history, none over one of its bounds `(segments + 1,)`."""
        start, stop = bounds[:-1], bounds[1:]
        seq_len = self.model.config.seq_len or DEFAULT_SEQ_LEN
        if self.model.config.label_level == "row":
            stride = min(self.model.config.eval_stride or max(1, seq_len // 2), seq_len)
            return cut_growing(start, stop, seq_len, stride, start)
        return cut_windows(start, stop, seq_len, 1, start, align="end")

    def _forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        told = {name: inputs.pop(name) for name in ("is_last", "first_judged", "length", "rows")}
        return {"logits": self.model(**inputs).logits, **told}

    def postprocess(self, outputs: list[dict[str, Any]], top_k: TopK = DECIDED) -> Any:
        """Name the labels of the judged rows of one history."""
        config, found = self.model.config, []
        for window in outputs:
            logits = window["logits"][0]  # (labels,), or (rows, labels) with a label per row
            if config.label_level == "row":
                judged = logits[window["first_judged"] : window["length"]]
                found += [answers(row, config, top_k) for row in judged]
            else:
                found.append(answers(logits, config, top_k))
        return found if outputs[0]["rows"] == "every" else found[-1]


def segments_of(table: pa.Table, plan: ColumnPlan, max_gap: float | None) -> np.ndarray:
    """Return where one history begins, goes on after a pause of more than `max_gap` seconds, and ends."""
    bounds = np.array([0, table.num_rows])
    if max_gap is None:
        return bounds
    pauses = np.diff(moments(table, plan)) > max_gap * 1e6
    return np.insert(bounds, 1, np.flatnonzero(pauses) + 1)


def moments(table: pa.Table, plan: ColumnPlan) -> np.ndarray:
    """Return when rows happened, `(rows,)` microseconds; the row's number where the plan has no time."""
    return np.arange(table.num_rows) if plan.time is None else microseconds(column(table, plan.time))


def refuse_unknown(parameters: dict[str, Any]) -> None:
    """Raise a ValueError for parameters that no pipeline of the package has."""
    if parameters:
        raise ValueError(
            f"Unknown parameters {sorted(parameters)}. The pipelines take top_k, that of tables rows, that of pictures "
            f"{', '.join(DOWNLOAD)}."
        )


def register() -> None:
    """Make both tasks known to `transformers.pipeline`."""
    tasks = {
        IMAGE_TEXT_TASK: ImageTextClassificationPipeline,
        TABULAR_TASK: TabularSequenceClassificationPipeline,
    }
    for task, made in tasks.items():
        if task not in PIPELINE_REGISTRY.supported_tasks:
            PIPELINE_REGISTRY.register_pipeline(task, made, pt_model=AutoModelForSequenceClassification)
