"""From table rows to token ids and back: fitted on the training rows, saved as JSON and safetensors."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import BatchFeature, FeatureExtractionMixin
from transformers.utils import FEATURE_EXTRACTOR_NAME, cached_file, logging

from ..checked_loading import HUB_OPTIONS
from ..travelling import TravellingMixin
from .ordering_files import copy_orderings, find_orderings
from .processing.column_plan import ColumnPlan
from .processing.entity_history import EntityHistory, check_history
from .processing.field import Field
from .processing.field_ids import ARRAYS_NAME, BATCH_ROWS, SEP_FIELD, VALUES_NAME, FieldIds
from .processing.fitting import TabBertStatistics, require_statistics, without_uncovered
from .processing.plan_presets import resolve_plan
from .processing.refused_rows import whole_numbers
from .processing.unknown_cells import count_unknown, warn_of_unknown
from .processing.values import as_table, is_list_of_rows

logger = logging.get_logger(__name__)

STATISTICS_NAME = "tabbert_statistics.json"  # what statistics of the past know of the training rows
_COPY_AGAIN = "Copy the processor again from where it came from, or fit and save it anew."


class TabBertProcessor(FieldIds, TravellingMixin, FeatureExtractionMixin):
    """Turns rows of a table into token ids, one per field, and back.

    Fit it on training rows only, then encode any table with the same columns: a value that was not met
    becomes its field's [UNK], a missing one its [MISSING]. Ids are the special tokens, then one range per
    field.

    Args:
        plan: a preset's name (`card`, `paper_card`, `prsa`, `paper_prsa`), a YAML file, a dict or a
            `ColumnPlan`.

    Example:

    ```python
    >>> rows = {"who": [1, 1, 2], "amount": [1.0, 2.0, 3.0], "shop": ["a", "b", "a"]}
    >>> plan = {"entity": "who", "fields": {"amount": {"kind": "numeric", "num_bins": 2}, "shop": {}}}
    >>> processor = TabBertProcessor(plan).fit(rows)
    >>> processor.encode(rows).to_pydict()
    {'amount': [6, 7, 7], 'shop': [10, 11, 10]}
    >>> processor.decode(processor.encode(rows)).to_pydict()["shop"]
    ['a', 'b', 'a']
    ```
    """

    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, plan: str | Path | dict | ColumnPlan = "card", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = resolve_plan(plan)
        self.rows_fitted = 0
        # what `RowStatistics.to_dict` gave, where the model reads statistics
        self.statistics: dict[str, Any] | None = None
        # ordering → folder of its encoder, whose surprise is among the statistics; copied beside what is saved
        self.orderings: dict[str, str] = {}
        self._fitted: list[Field] = []

    # -- fitting
    # -------------------------------------------------------------------------------------------------------

    def fit(self, rows: Any) -> "TabBertProcessor":
        """Fit on training rows: one table (see `as_table`) or an iterable of batches; returns self."""
        return self.finish(self.fit_part(rows))

    def finish(self, statistics: TabBertStatistics) -> "TabBertProcessor":
        """Give out ids from merged statistics; returns self.

        A calendar field that the plan keeps only if it is `covered`, and is not, is left out of the processor's plan.

        Raises:
            TypeError: if `statistics` are not what `fit_part` gives.
            ValueError: if there were no rows, or a binned field met no number.
        """
        require_statistics(statistics, "finish(statistics)")
        if statistics.plan != self.plan:
            raise ValueError(
                "Expected statistics of this processor's column plan, found those of another plan. Fit the parts with "
                "this processor's `fit_part`, or finish them with the processor whose plan they have."
            )
        if statistics.rows == 0:
            raise ValueError("Expected at least one row to fit on, found none. Is the training split empty?")
        self.plan, fields = without_uncovered(self.plan, statistics.fields)
        tokens = self.plan.special_tokens
        fitted, start = [], len(tokens)
        unknown_id = tokens.index("[UNK]") if "[UNK]" in tokens else 0
        for field in fields:
            fitted.append(field.fitted(start, self.plan.field_specials, unknown_id))
            start = fitted[-1].end
        self._fitted, self.rows_fitted = fitted, statistics.rows
        return self

    # -- rows to ids and back
    # ------------------------------------------------------------------------------------------

    def encode(self, rows: Any, history: EntityHistory | None = None) -> pa.Table:
        """Return the ids of a table's rows, in the order of the rows.

        Args:
            rows: one table (see `as_table`).
            history: what `new_history` gave and earlier batches of the same table went through; None: the
                table begins here, so each entity's first row has no time gap.

        Returns:
            A column of ids per field: uint16, or uint32 where ids need it.

        Raises:
            ValueError: if a column is absent or holds what its field cannot read.
        """
        batch_of_map = isinstance(rows, Mapping) and not isinstance(rows, dict)
        if history is None and self.plan.reads_gaps and batch_of_map:
            logger.warning_once(
                "Dataset.map encodes batch by batch: where a history crosses two batches, the first row of the second "
                "gets no time gap. Use TabBertProcessor.encode_dataset, which carries the times from batch to batch."
            )
        encoded = super().encode(rows, history)
        warn_of_unknown(self, self._count_unknown(encoded), encoded.num_rows)
        return encoded

    def _count_unknown(self, encoded: pa.Table) -> np.ndarray:
        return count_unknown(self, {name: encoded[name].to_numpy() for name in self.fields})

    def encode_dataset(self, dataset: Any, batch_size: int = BATCH_ROWS) -> Any:
        """Return a dataset of ids, row for row, whatever the size of a batch.

        The plain way, `dataset.map(processor.encode, batched=True)`, loses the time gap of a row whose earlier row was
        in the batch before.

        Args:
            dataset: `datasets.Dataset`, the rows of a table, each entity's in the order of time; or a `DatasetDict`,
                whose splits are tables of their own: the first row of an entity in a split has no time gap.
            batch_size: rows that are encoded at once.

        Returns:
            A `datasets.Dataset` with a column of ids per field, stored as `map` does, under the fingerprints of both;
            a `DatasetDict` of them for a `DatasetDict`.

        Raises:
            TypeError: for rows that are no such data set, an `IterableDataset` too.
        """
        if isinstance(dataset, Mapping) and all(hasattr(split, "_fingerprint") for split in dataset.values()):
            kind: Any = type(dataset)
            return kind({name: self.encode_dataset(dataset[name], batch_size) for name in dataset})
        if not hasattr(dataset, "_fingerprint"):
            raise TypeError(
                f"Expected a datasets.Dataset or DatasetDict, found {type(dataset).__name__}. Encode a stream by "
                '`encode_batches(dataset.with_format("arrow").iter(batch_size))`, a table by `encode(table)`.'
            )
        history = self.new_history()
        encoded = dataset.with_format("arrow").map(
            lambda rows: super(TabBertProcessor, self).encode(rows, history),
            batched=True,
            batch_size=batch_size,
            remove_columns=dataset.column_names,
            new_fingerprint=hashlib.sha256(f"{dataset._fingerprint} {self.fingerprint}".encode()).hexdigest()[:16],
            desc="Encoding rows",
        )
        counts = (self._count_unknown(ids) for ids in encoded.with_format("arrow").iter(BATCH_ROWS))
        warn_of_unknown(self, sum(counts, np.zeros(len(self.plan.fields), dtype=np.int64)), len(encoded))
        return encoded.with_format(None)

    def decode(self, input_ids: Any, digits: int = 6) -> pa.Table:
        """Return the text of ids: values, intervals of numbers or special tokens.

        Args:
            input_ids: a table as `encode` returns it, or whole numbers of shape `(rows, fields)`; one window
                `(1, rows, fields)` too.
            digits: of the edges of intervals that matter. Times between rows have their unit.

        Raises:
            ValueError: if the number of columns is not that of the fields, or an id belongs to another field.
        """
        self._require_fitted()
        if isinstance(input_ids, pa.Table):
            if absent := sorted(set(self.fields) - set(input_ids.column_names)):
                raise ValueError(
                    f"Expected a table as `encode` gives it, with the columns {self.fields}, found none of "
                    f"{', '.join(absent)}. Decode what this processor encoded."
                )
            ids = np.stack([input_ids[name].to_numpy() for name in self.fields], axis=1)
        else:
            ids = whole_numbers(input_ids)
            ids = ids[0] if ids.ndim == 3 and len(ids) == 1 else ids
        if ids.ndim != 2 or ids.shape[1] != len(self.fields):
            raise ValueError(
                f"Expected ids of shape (rows, {len(self.fields)}), found {tuple(ids.shape)}. Pass `input_ids`, of one "
                "window at a time."
            )
        words = {f.plan.name: f.decode(ids[:, i], self.plan.special_tokens, digits) for i, f in enumerate(self._fitted)}
        if self.plan.sep_column:
            words[SEP_FIELD] = [self.plan.special_tokens[i] for i in ids[:, -1]]
        return pa.table(words)

    def __call__(
        self, rows: Any, max_rows: int | None = None, return_tensors: str | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Encode one history (a table, see `as_table`) or several (a list of them) for a model, padded to the longest.

        Args:
            rows: each table holds the rows of one entity in the order of time; the last `max_rows` rows count.
            max_rows: 1 or more; None: all.

        Returns:
            `input_ids (batch, rows, fields)` and `attention_mask (batch, rows)`, 1 = a real row.

        Raises:
            ValueError: if a table holds the rows of several entities, or a row after a later one.
        """
        if max_rows is not None and not (isinstance(max_rows, int | np.integer) and max_rows > 0):
            raise ValueError(f"Expected max_rows from 1 on, or None for all rows, found {max_rows!r}. Correct it.")
        several = isinstance(rows, list | tuple) and not is_list_of_rows(rows)
        tables = [as_table(one) for one in (rows if several else [rows])]
        windows, unknown, rows_read = [], np.zeros(len(self.plan.fields), dtype=np.int64), 0
        for number, table in enumerate(tables):
            check_history(table, self.plan, number if len(tables) > 1 else None)
            encoded = super().encode(table)
            unknown, rows_read = unknown + self._count_unknown(encoded), rows_read + encoded.num_rows
            ids = np.stack([encoded[n].to_numpy() for n in self.fields], axis=1).astype(np.int64)
            windows.append(ids[-max_rows:] if max_rows is not None else ids)
        warn_of_unknown(self, unknown, rows_read)
        longest = max((len(w) for w in windows), default=0)
        input_ids = np.full((len(windows), longest, len(self.fields)), self.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros((len(windows), longest), dtype=np.int64)
        for i, window in enumerate(windows):
            input_ids[i, : len(window)] = window
            attention_mask[i, : len(window)] = 1
        data = {"input_ids": input_ids, "attention_mask": attention_mask}
        return BatchFeature(data, tensor_type=return_tensors)

    # -- saving and loading
    # --------------------------------------------------------------------------------------------

    def _travels_as(self) -> dict[str, str]:
        return {"AutoProcessor": "TabBertProcessor", "AutoFeatureExtractor": "TabBertProcessor"}

    def to_dict(self) -> dict[str, Any]:
        """Return what `preprocessor_config.json` holds: the plan and the ranges; values lie in files of their
        own.
        """
        own = {
            k: v
            for k, v in self.__dict__.items()
            if not k.startswith("_") and k not in ("plan", "rows_fitted", "statistics")
        }
        out = deepcopy(own) | self._state()[0]
        if self._fitted:
            out["fingerprint"] = self.fingerprint
        if self.statistics is not None:
            out["statistics_fingerprint"] = _fingerprint(self.statistics)
        # the two names by which AutoFeatureExtractor and AutoProcessor find the class
        return out | {"feature_extractor_type": type(self).__name__, "processor_class": type(self).__name__}

    def to_json_file(self, json_file_path: str | os.PathLike) -> None:
        """Write the JSON file and, beside it, the values; `save_pretrained` calls this."""
        super().to_json_file(json_file_path)
        _, words, arrays = self._state()
        folder = Path(json_file_path).parent
        with open(folder / VALUES_NAME, "w", encoding="utf-8") as file:
            json.dump(words, file, ensure_ascii=False, indent=0)
        save_file(arrays, folder / ARRAYS_NAME)
        if self.statistics is not None:
            (folder / STATISTICS_NAME).write_text(json.dumps(self.statistics, ensure_ascii=False), encoding="utf-8")
            copy_orderings(self.orderings, folder)

    @classmethod
    def get_feature_extractor_dict(
        cls, pretrained_model_name_or_path: Any, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the JSON file and the values beside it, from a folder or the Hub."""
        hub = {k: kwargs[k] for k in (*HUB_OPTIONS, "proxies") if k in kwargs}
        plain, rest = super().get_feature_extractor_dict(pretrained_model_name_or_path, **kwargs)
        _check_plan(plain, f"{pretrained_model_name_or_path}/{FEATURE_EXTRACTOR_NAME}")
        if plain.get("fitted"):
            folder = Path(pretrained_model_name_or_path) / str(kwargs.get("subfolder") or "")
            absent = [name for name in (VALUES_NAME, ARRAYS_NAME) if not (folder / name).is_file()]
            if folder.is_dir() and absent:
                raise FileNotFoundError(
                    f"Expected {VALUES_NAME} and {ARRAYS_NAME} beside the processor's JSON file in {str(folder)!r}, "
                    f"found no {' and no '.join(absent)}. Copy all of its files."
                )
            plain["_words"] = _read_json(cached_file(pretrained_model_name_or_path, VALUES_NAME, **hub))
            arrays = str(cached_file(pretrained_model_name_or_path, ARRAYS_NAME, **hub))
            try:
                plain["_arrays"] = load_file(arrays)
            except SafetensorError as error:
                raise ValueError(
                    f"Expected the values of a processor in {arrays!r}, found a damaged file ({error}). Copy it anew "
                    "from where it was made."
                ) from error
        file = cached_file(
            pretrained_model_name_or_path, STATISTICS_NAME, _raise_exceptions_for_missing_entries=False, **hub
        )
        plain["statistics"] = _read_json(file, ("counts", "groups", "names")) if file else None
        names = list((plain["statistics"] or {}).get("orderings") or {})
        plain["_orderings"] = find_orderings(pretrained_model_name_or_path, names, **hub)
        return plain, rest

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build the processor from what `get_feature_extractor_dict` read.

        Raises:
            ValueError: if the values or statistics do not belong to the JSON file (their fingerprint differs).
        """
        given = dict(feature_extractor_dict)
        unused = kwargs.pop("return_unused_kwargs", False)
        fitted, words, arrays = (given.pop(k, {}) for k in ("fitted", "_words", "_arrays"))
        fingerprint, rows_fitted = given.pop("fingerprint", None), given.pop("rows_fitted", 0)
        given.pop("feature_extractor_type", None)
        statistics, orderings = given.pop("statistics", None), given.pop("_orderings", {})
        of_statistics = given.pop("statistics_fingerprint", None)  # None: saved by an older version
        if statistics is not None and of_statistics not in (None, _fingerprint(statistics)):
            raise ValueError(
                f"Expected the statistics {of_statistics} in {STATISTICS_NAME}, found {_fingerprint(statistics)}: the "
                f"file is another's, or was changed. {_COPY_AGAIN}"
            )
        processor = cls(**given)
        processor.statistics, processor.orderings = statistics, orderings
        processor.rows_fitted = rows_fitted
        if fitted:
            processor.load_fitted(fitted, words, arrays, fingerprint)
        return (processor, kwargs) if unused else processor

    def summary(self) -> pl.DataFrame:
        """Return one row per field: kind, ids, values, missing share, error of its bin edges."""
        self._require_fitted()
        return pl.DataFrame(
            {
                "field": [f.plan.name for f in self._fitted],
                "kind": [f.plan.kind for f in self._fitted],
                "first_id": [f.start for f in self._fitted],
                "values": [f.size for f in self._fitted],
                "hashed": [bool(f.buckets) for f in self._fitted],
                "missing": [f.missing_rate for f in self._fitted],
                "edge_error": [f.error for f in self._fitted],
            }
        )


def _read_json(path: Any, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Read one of the processor's files.

    Raises:
        ValueError: if it is damaged, or lacks one of the keys.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Expected values as JSON in {str(path)!r}, found {error}. {_COPY_AGAIN}") from error
    _refuse_foreign(content, keys, path)
    return content


def _fingerprint(statistics: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(statistics, ensure_ascii=False).encode()).hexdigest()[:16]


def _check_plan(content: Any, path: str) -> None:
    """Raise a ValueError if the JSON file of a processor has no plan, or lost what was fitted."""
    _refuse_foreign(content, ("plan",), path)
    try:
        ColumnPlan.from_dict(content["plan"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"Expected a column plan in {path!r}, found another ({error}). {_COPY_AGAIN}") from error
    if content.get("fingerprint") is not None and not content.get("fitted"):
        raise ValueError(
            f"Expected what a processor was fitted on as `fitted` in {path!r}, found {content.get('fitted')!r}. "
            f"{_COPY_AGAIN}"
        )


def _refuse_foreign(content: Any, keys: Sequence[str], path: Any) -> None:
    """Raise a ValueError if what was read from a file of the processor is no mapping with these keys."""
    if not isinstance(content, dict) or any(key not in content for key in keys):
        found = f"the keys {', '.join(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(
            f"Expected a mapping with {', '.join(keys) or 'fields'} in {str(path)!r}, found {found}. {_COPY_AGAIN}"
        )
