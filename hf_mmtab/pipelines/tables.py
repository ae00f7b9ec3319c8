"""`pipeline("tabular-sequence-classification")`: heads on TabBERT."""

# The base class declares its parts as None and its steps with no parameters of their own.
# mypy: disable-error-code="override"

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from transformers import AutoProcessor
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from ..models.tabbert.processing.values import as_table, is_list_of_rows
from ..serving.history_windows import ROWS, history_windows, read_history
from ..serving.named_scores import DECIDED, TopK, answers, check_top_k
from ..statistics.columns import columns_of_history, moments
from ..statistics.features import of_other_histories
from ..statistics.row_statistics import RowStatistics
from .answers import RightPadding, SavedWithProcessor, refuse_unknown

logger = logging.get_logger(__name__)


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
    lists, list of dicts, `datasets.Dataset`), or a list of histories. Times may be texts such as 2024-05-01T10:30:00.
    They have the columns that the reader of training gave: card and
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

    def __init__(self, model: Any, processor: Any = None, feature_extractor: Any = None, **kwargs: Any) -> None:
        processor = processor if processor is not None else feature_extractor
        if processor is None and not model.name_or_path:
            raise ValueError(
                "Expected the processor that the model was trained with, found none: the model was not loaded from a "
                "folder. Pass processor=TabBertProcessor.from_pretrained(...)."
            )
        if processor is None or isinstance(processor, str):
            processor = AutoProcessor.from_pretrained(processor or model.name_or_path)
        super().__init__(model=model, processor=processor, **kwargs)
        # Every head has `in_units`, in the package and in standalone copies.
        if not hasattr(self.model, "in_units"):
            raise ValueError(
                f"Expected a TabBERT with a head, such as TabBertLstmForSequenceClassification, found "
                f"{type(self.model).__name__}. Pass the folder that `finetune` wrote."
            )
        if not hasattr(self.processor, "plan"):
            raise ValueError(
                f"Expected a TabBertProcessor, found {type(self.processor).__name__}. Pass the model's own."
            )
        self.model.check_processor(self.processor.fingerprint)
        if orderings := (self.processor.statistics or {}).get("orderings"):
            raise ValueError(
                f"Expected a model that reads one history, found one that reads how unexpected rows are in other "
                f"orderings ({', '.join(orderings)}), which rows of other histories tell. Use the command `predict` on "
                "the whole table."
            )
        self.tokenizer = RightPadding(self.processor.pad_token_id)

    def _sanitize_parameters(
        self, top_k: TopK = DECIDED, rows: str | None = None, **unknown: Any
    ) -> tuple[dict, dict, dict]:
        refuse_unknown(unknown, ["rows"])
        check_top_k(top_k)
        if rows not in (None, *ROWS):
            raise ValueError(f'Expected rows to be "last" or "every", found {rows!r}.')
        chosen = {} if rows is None else {"rows": rows}
        return chosen, {}, {} if top_k == DECIDED else {"top_k": top_k}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Judge one history, or each of a list of histories; see the class."""
        return super().__call__(as_table(inputs) if is_list_of_rows(inputs) else inputs, **kwargs)

    def preprocess(self, history: Any, rows: str = "last") -> Iterator[dict[str, Any]]:
        """Cut one history into windows, and yield each as a batch of one."""
        table = read_history(history, self.processor.plan)
        ids = self.processor(table, return_tensors="pt")["input_ids"]  # (1, rows, fields)
        plan, beside = self.processor.plan, {}
        if getattr(self.model, "reads_times", False):
            beside["times"] = moments(table, plan)
        if self.model.config.statistics:
            beside["statistics"] = self.statistics.table(
                columns_of_history(table, self.processor, self.statistics.old_labels)
            )
        index = history_windows(table, plan, self.model.config)
        chosen = range(len(index)) if rows == "every" else [len(index) - 1]
        for number in chosen:
            start, length = int(index.start[number]), int(index.length[number])
            yield {
                "input_ids": ids[:, start : start + length],
                "attention_mask": torch.ones(1, length, dtype=torch.long),
                **{name: torch.tensor(rows_of[start : start + length][None]) for name, rows_of in beside.items()},
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
        if others := of_other_histories(self.processor.statistics, self.processor.plan.entity):
            logger.warning(
                f"Some statistics of this model ({', '.join(others)}) count rows of other histories; the pipeline sees "
                "one history at a time. For the scores of training use the command `predict` on the whole table."
            )
        return RowStatistics.from_dict(self.processor.statistics)

    def _forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
        told = {name: inputs.pop(name) for name in ("is_last", "first_judged", "length", "rows")}
        return {"logits": self.model(**inputs).logits, **told}

    def postprocess(self, outputs: list[dict[str, Any]], top_k: TopK = DECIDED) -> Any:
        """Name the labels of the judged rows of one history."""
        config, found = self.model.config, []
        for window in outputs:
            logits = window["logits"][0].float().numpy()  # (labels,), or (rows, labels) with a label per row
            if config.label_level == "row":
                judged = logits[window["first_judged"] : window["length"]]
                found += [answers(row, config, top_k) for row in judged]
            else:
                found.append(answers(logits, config, top_k))
        return found if outputs[0]["rows"] == "every" else found[-1]
