"""An exported model with its processor: labels and scores by onnxruntime."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..models.tabbert.processing.values import is_list_of_rows
from ..statistics.columns import columns_of_history, moments
from ..statistics.row_statistics import RowStatistics
from .export_files import AGAIN, read_settings
from .history_windows import ROWS, history_windows, read_history
from .inputs import Inputs, PictureAndText, SavedFields
from .named_scores import DECIDED, TopK, answers, check_top_k
from .trees import ALONE, SavedTrees

MODEL_NAME = "model.onnx"
STATISTICS_NAME = "tabbert_statistics.json"
FILLINGS = {"statistics": np.nan, "times": 2**62}  # of rows that pad a window


class Predictor:
    """Answers as the pipeline of the checkpoint does, to 1e-4 of a score, without torch and transformers.

    Heads with boosted trees need LightGBM. Statistics of the past are those of the history that is given, as in the
    pipeline: what other histories had lately at the same value is not there.

    Args:
        folder: written by `hf-mmtab export`.
        threads: of onnxruntime; 0: as many as there are cores.

    Raises:
        ValueError: if the folder holds no export, one without labels (a pretrained model), or one whose files are not
            as they were written.

    Example:

    ```python
    from hf_mmtab.serving import Predictor

    classify = Predictor("exports/openclipart")
    classify(image="fork.png", text="a fork on a plate")  # {"label": "food", "score": 0.93}
    score = Predictor("exports/payments")
    score(history)  # rows of one entity, the oldest first: the label of the last
    score(history, rows="every")  # a list with an answer for each row
    ```
    """

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        folder = Path(folder)
        settings = read_settings(folder)
        if settings["labels"] is None:
            raise ValueError(
                f"Expected a model with labels in {str(folder)!r}, found a pretrained one, whose outputs are scores of "
                "cells. Run model.onnx with onnxruntime, or export a fine-tuned model."
            )
        self.config = SimpleNamespace(**settings["config"], id2label=settings["labels"])
        self.fields = SavedFields(folder) if settings["family"] == "tabbert" else None
        self.encoder = PictureAndText(folder, settings["text"], settings["image"])
        self.pad_token_id = settings["pad_token_id"]
        self.reads: list[str] = settings.get("reads", [])
        trees = settings.get("trees")
        self.trees = SavedTrees(folder, trees, self.config.label_level == "row") if trees else None
        if "statistics" in self.reads:
            saved = json.loads((folder / STATISTICS_NAME).read_text(encoding="utf-8"))
            self.statistics = RowStatistics.from_dict(saved)
        if not (trees and trees["place"] == ALONE):
            self.session = open_session(folder, threads)
            self.input_names = [one.name for one in self.session.get_inputs()]

    @property
    def reads_tables(self) -> bool:
        """Whether an example is a history of table rows."""
        return self.fields is not None

    def __call__(
        self,
        example: Any = None,
        *,
        image: Any = None,
        text: str | None = None,
        text_pair: str | None = None,
        rows: str = "last",
        top_k: TopK = DECIDED,
    ) -> Any:
        """Judge one example: a history (as the pipeline takes it), a mapping, or `image`, `text` and `text_pair`.

        Args:
            example: a history of rows, or a mapping with `image`, `text` and `text_pair`.
            image: path, bytes, PIL picture or array; None: there is none.
            text, text_pair: of the picture.
            rows: "last" judges the last row of a history, "every" each row.
            top_k: as in the pipeline: "decided", a number of labels, or None for all.

        Raises:
            ValueError: if the example is not one that the model reads.
        """
        if example is None:
            given = {"image": image, "text": text, "text_pair": text_pair}
            example = {name: value for name, value in given.items() if value is not None}
        return self.many([example], rows=rows, top_k=top_k)[0]

    def many(
        self, examples: Sequence[Any], *, rows: str = "last", top_k: TopK = DECIDED, batch_size: int = 32
    ) -> list[Any]:
        """Judge several examples, `batch_size` at a time; returns an answer for each, as `__call__`."""
        check_top_k(top_k)
        prepared = [self.prepare(example, rows) for example in examples]
        encoded = [inputs for one in prepared for inputs, _ in one]
        logits: list[np.ndarray] = []
        for start in range(0, len(encoded), batch_size):
            logits += list(self.logits(self.batch(encoded[start : start + batch_size])))
        return self.answers(logits, prepared, rows, top_k)

    def prepare(self, example: Any, rows: str = "last") -> list[tuple[Inputs, slice]]:
        """Encode one example: the model's inputs, without a batch axis, of each of its windows, and the judged rows.

        Raises:
            ValueError: if the example is not one that the model reads.
        """
        if rows not in ROWS:
            raise ValueError(f'Expected rows to be "last" or "every", found {rows!r}.')
        return self._windows(example, rows) if self.reads_tables else [(self._pair(example), slice(0))]

    def answers(
        self, logits: Sequence[np.ndarray], prepared: Sequence[list[tuple[Inputs, slice]]], rows: str, top_k: TopK
    ) -> list[Any]:
        """Name the labels of several examples from the logits of all their windows, one example behind the other."""
        windows = iter(logits)
        return [self.answer([next(windows) for _ in one], one, rows, top_k) for one in prepared]

    def answer(
        self, logits: Sequence[np.ndarray], prepared: Sequence[tuple[Inputs, slice]], rows: str, top_k: TopK
    ) -> Any:
        """Name the labels of one example from the logits of each of its windows."""
        judged = list(logits)
        if self.reads_tables and self.config.label_level == "row":
            judged = [row for one, (_, places) in zip(logits, prepared, strict=True) for row in one[places]]
        listed = [answers(one, self.config, top_k) for one in judged]
        return listed if rows == "every" and self.reads_tables else listed[-1]

    def logits(self, batch: Inputs) -> np.ndarray:
        """Return `(batch, labels)`, or `(batch, rows, labels)` of a model with a label per row."""
        return self._network(batch) if self.trees is None else self.trees.logits(batch, self._network)

    def _network(self, batch: Inputs) -> np.ndarray:
        return self.session.run(None, {name: batch[name] for name in self.input_names})[0]

    def batch(self, encoded: Sequence[Inputs]) -> Inputs:
        """Pad examples to the longest, one token or row at least, and stack them."""
        stacked = {}
        for name in encoded[0]:
            arrays = [inputs[name] for inputs in encoded]
            if name not in ("pixel_values", "image_mask"):
                longest = max(1, *map(len, arrays))
                fill = self.pad_token_id if name == "input_ids" else FILLINGS.get(name, 0)
                arrays = [
                    np.pad(one, [(0, longest - len(one)), *[(0, 0)] * (one.ndim - 1)], constant_values=fill)
                    for one in arrays
                ]
            stacked[name] = np.stack(arrays)
        return stacked

    def _pair(self, example: Any) -> Inputs:
        if not isinstance(example, Mapping):
            raise ValueError(
                'Expected a mapping such as {"image": "fork.png", "text": "a fork on a plate"}, found '
                f"{type(example).__name__}."
            )
        return self.encoder(example)

    def _windows(self, history: Any, rows: str) -> list[tuple[Inputs, slice]]:
        """Return the windows of a history, and which rows of each are judged."""
        assert self.fields is not None
        if isinstance(history, list) and not is_list_of_rows(history):
            raise ValueError("Expected a history of at least one row that is a mapping, found another list.")
        table = read_history(history, self.fields.plan)
        beside = {"input_ids": self.fields.ids(table)}
        if "times" in self.reads:
            beside["times"] = moments(table, self.fields.plan)
        if "statistics" in self.reads:
            columns = columns_of_history(table, self.fields, self.statistics.old_labels)
            beside["statistics"] = self.statistics.table(columns)
        index = history_windows(table, self.fields.plan, self.config)
        windows = []
        for number in range(len(index)) if rows == "every" else [len(index) - 1]:
            start, length = int(index.start[number]), int(index.length[number])
            first = int(index.label_start[number]) if rows == "every" else length - 1
            inputs = {name: values[start : start + length] for name, values in beside.items()}
            inputs["attention_mask"] = np.ones(length, dtype=np.int64)
            windows.append((inputs, slice(first, length)))
        return windows


def open_session(folder: Path, threads: int) -> Any:
    """Return the session of the network of an export.

    Raises:
        ValueError: if there is no network.
    """
    import onnxruntime

    if not (folder / MODEL_NAME).is_file():
        raise ValueError(f"Expected an export in {str(folder)!r}, found no {MODEL_NAME}. {AGAIN}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(folder / MODEL_NAME), options, providers=["CPUExecutionProvider"])
