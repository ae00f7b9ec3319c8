"""The fitted fields of a processor: rows to ids, and what a model and a collator need to know of the ids.

NumPy, pyarrow and polars alone: a service encodes rows without transformers.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from .column_plan import ColumnPlan
from .entity_history import EntityHistory
from .field import Field
from .field_kinds import make_fields
from .fitting import TabBertStatistics, arrays_of, for_each_field, join_arrays, new_history, read_batch
from .text_numbers import is_text
from .values import is_list_of_rows

VALUES_NAME = "tabbert_values.json"  # text vocabularies, in the order of ids
ARRAYS_NAME = "tabbert_arrays.safetensors"  # number vocabularies, bin edges, counts
SEP_FIELD = "[SEP]"
IDS_MARK = b"hf_mmtab"  # in the metadata of encoded tables, which Parquet and Arrow files keep
BATCH_ROWS = 262_144
# of rows: one batch, or what is refused as such
WHOLE = (pa.Table, pa.RecordBatch, pl.DataFrame, pl.LazyFrame, Mapping, str, bytes, os.PathLike, np.ndarray)
TIMES = r"^(\d{4}-\d\d-\d\d|(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d{6,9}Z?)$"  # as Arrow writes them


def _all_times(values: pa.Array) -> bool:
    return is_text(values.type) and bool(pc.all(pc.match_substring_regex(values, TIMES)).as_py())


class FieldIds:
    """Mixin of `TabBertProcessor`: encodes rows after fitting, and knows the ranges of the ids."""

    plan: ColumnPlan
    rows_fitted: int
    _fitted: list[Field]

    def bare(self) -> "FieldIds":
        """Return what fits parts and encodes as this does, for a process without transformers."""
        bare = FieldIds()
        bare.plan, bare.rows_fitted, bare._fitted = self.plan, self.rows_fitted, self._fitted
        return bare

    def fit_part(self, rows: Any) -> TabBertStatistics:
        """Learn from some rows without finishing, to be merged with other parts and given to `finish`."""
        part = TabBertStatistics(self.plan)
        for batch in _batches(rows):
            part.add(batch)
        return part

    def encode(self, rows: Any, history: EntityHistory | None = None) -> pa.Table:
        """Return the ids of a table's rows, a column per field; see `TabBertProcessor.encode`."""
        self._require_fitted()
        batch = read_batch(self.plan, rows, history if history is not None else self.new_history())
        columns = for_each_field(lambda field: field.encode(batch), self._fitted, batch)
        if self.plan.sep_column:
            columns.append(pa.array(np.full(batch.table.num_rows, self.sep_token_id, dtype=np.uint16)))
        return pa.table(dict(zip(self.fields, columns, strict=True)), metadata={IDS_MARK: b"ids"})

    def encode_batches(self, rows: Any) -> Iterator[pa.Table]:
        """Encode batch after batch of one table, carrying each entity's last time from batch to batch.

        A table, a data set or a list of rows is taken for one batch, or cut into several.
        """
        history = self.new_history()
        for batch in _batches(rows):
            yield FieldIds.encode(self, batch, history)  # whoever reads all batches tells of unknown values

    def new_history(self) -> EntityHistory | None:
        """Return an empty memory of entities for `encode`; None if no field needs one."""
        return new_history(self.plan)

    def _state(self) -> tuple[dict[str, Any], dict[str, list], dict[str, np.ndarray]]:
        plan = self.plan.to_dict()
        # a list: transformers sorts the keys of the JSON file, and the order of the fields is that of the input
        plan["fields"] = [{"name": name} | settings for name, settings in plan["fields"].items()]
        states = {field.plan.name: field.state() for field in self._fitted}
        plain = {
            "plan": plan,
            "rows_fitted": self.rows_fitted,
            "fitted": {name: one[0] for name, one in states.items()},
        }
        words = {name: one[1] for name, one in states.items() if one[1] is not None}
        return plain, words, join_arrays([one[2] for one in states.values()])

    def load_fitted(
        self, fitted: dict[str, Any], words: dict[str, list], arrays: dict[str, np.ndarray], fingerprint: str | None
    ) -> None:
        """Take the fitted fields of the plan from what `save_pretrained` wrote.

        Raises:
            ValueError: if the values do not belong to the JSON file (their fingerprint differs).
        """
        self._fitted = make_fields(self.plan)
        try:
            for number, field in enumerate(self._fitted):
                name = field.plan.name
                field.load_state(fitted[name], words.get(name), arrays_of(number, arrays))
            found = f"those of {self.fingerprint}"
        except (AssertionError, LookupError, TypeError, ValueError) as error:  # wherever values of other fields fail
            found = f"others, which cannot be read ({type(error).__name__} {error})"
        if found != f"those of {fingerprint}":
            raise ValueError(
                f"Expected the values of processor {fingerprint} in {VALUES_NAME} and {ARRAYS_NAME}, "
                f"for the plan and `fitted` of preprocessor_config.json, found {found}. "
                "The files come from different processors or were changed: copy all of them again from one place."
            )

    @property
    def is_fitted(self) -> bool:
        """Whether `fit`, `finish` or loading has given out ids."""
        return bool(self._fitted)

    def _require_fitted(self) -> None:
        if not self._fitted:
            raise ValueError("This TabBertProcessor is not fitted yet. Call `fit(rows)` with the training rows first.")

    @property
    def fields(self) -> list[str]:
        """Names of the columns of `input_ids`, in order."""
        return [f.name for f in self.plan.fields] + ([SEP_FIELD] if self.plan.sep_column else [])

    @property
    def field_ranges(self) -> list[list[int]]:
        """`[start, end)` of the ids of each column; a [SEP] column has the special tokens."""
        self._require_fitted()
        ranges = [[f.start, f.end] for f in self._fitted]
        return ranges + ([[0, len(self.plan.special_tokens)]] if self.plan.sep_column else [])

    @property
    def numeric_ranges(self) -> dict[str, list[int]]:
        """`[start, end)` of the ids that are increasing bins, for each binned field."""
        return {f.plan.name: [f.first_value_id, f.end] for f in self._fitted if f.edges is not None}

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        self._require_fitted()
        return self._fitted[-1].end + self.plan.label_ids

    @property
    def pad_token_id(self) -> int:
        """Id of [PAD]."""
        return self.plan.special_tokens.index("[PAD]")

    @property
    def cls_token_id(self) -> int:
        """Id of [CLS]."""
        return self.plan.special_tokens.index("[CLS]")

    @property
    def sep_token_id(self) -> int:
        """Id of [SEP]."""
        return self.plan.special_tokens.index("[SEP]")

    @property
    def mask_token_id(self) -> int:
        """Id of [MASK]."""
        return self.plan.special_tokens.index("[MASK]")

    @property
    def bos_token_id(self) -> int:
        """Id of [BOS], which begins a window of TabGPT; of [CLS] where the plan has no [BOS]."""
        tokens = self.plan.special_tokens
        return tokens.index("[BOS]" if "[BOS]" in tokens else "[CLS]")

    @property
    def fitted_fields(self) -> tuple[Field, ...]:
        """The fields with their ids and what the training rows had of each, in the order of the plan."""
        self._require_fitted()
        return tuple(self._fitted)

    def config_kwargs(self, numeric: str = "bins") -> dict[str, Any]:
        """Return what `TabBertConfig(**kwargs)` must share with this processor.

        Args:
            numeric: how its cells of numbers and calendar parts are embedded; see `TabBertConfig.numeric`.
        """
        numbers: dict[str, Any] = {}
        if numeric != "bins":
            binned = {f.plan.name: f.normal_places() for f in self._fitted if f.edges is not None}
            cycles = {f.plan.name: [f.first_value_id, f.end] for f in self._fitted if f.plan.kind == "time_part"}
            numbers = {"numeric": numeric, "bin_numbers": binned, "cycle_ranges": cycles}
        return {
            **numbers,
            "fields": self.fields,
            "field_ranges": self.field_ranges,
            "numeric_ranges": self.numeric_ranges,
            "vocab_size": self.vocab_size,
            "pad_token_id": self.pad_token_id,
            "cls_token_id": self.cls_token_id,
            "sep_token_id": self.sep_token_id,
            "mask_token_id": self.mask_token_id,
            "processor_fingerprint": self.fingerprint,
        }

    def value_ranges(self) -> list[list[int]]:
        """Return `[start, end)` of the ids of each column that are values or bins: what masking replaces
        with.
        """
        self._require_fitted()
        ranges = [[f.first_value_id, f.end] for f in self._fitted]
        return ranges + ([[0, 0]] if self.plan.sep_column else [])

    def unknown_ids(self) -> list[int]:
        """Return the id of an unknown value of each column."""
        self._require_fitted()
        return [f.unknown_id for f in self._fitted] + ([self.sep_token_id] if self.plan.sep_column else [])

    def ids_without_rows(self) -> list[int]:
        """Return for each column the id that new rows may have and no training row had: [MISSING], else [UNK]."""
        self._require_fitted()
        found = [f.unknown_id if f.missing_rate else f.missing_id for f in self._fitted]
        return found + [self.sep_token_id] * self.plan.sep_column

    def unknown_shares(self) -> list[float]:
        """Return the share of [UNK] among the training rows of each column."""
        self._require_fitted()
        return [f.unknown_share(self.rows_fitted) for f in self._fitted] + [0.0] * self.plan.sep_column

    def missing_ids(self) -> list[int]:
        """Return the id of a missing value of each field."""
        self._require_fitted()
        return [f.missing_id for f in self._fitted]

    def missing_shares(self) -> list[float]:
        """Return the share of [MISSING] among the training rows of each field."""
        self._require_fitted()
        return [f.missing_rate for f in self._fitted]

    def typed_columns(self) -> list[str]:
        """Return the columns whose categories were learned as dates or times, or may have been before they were hashed.

        The same cells as text, written in another way, would not be found.
        """
        return [f.source for f in self._fitted if f.buckets or (f.values is not None and _all_times(f.values))]

    def static_fields(self) -> list[bool]:
        """Return for each column whether it is the same in all rows of an entity."""
        return [f.static for f in self.plan.fields] + ([False] if self.plan.sep_column else [])

    @property
    def fingerprint(self) -> str:
        """Hash of the plan and everything fitted: 16 hexadecimal digits.

        Equal fingerprints give equal ids. The same rows fitted on another CPU, whose logarithm differs in its last
        digit, give the same ids and may give another fingerprint: save the processor, and load it elsewhere.
        """
        self._require_fitted()
        plain, words, arrays = self._state()
        digest = hashlib.sha256(json.dumps([plain, words], sort_keys=True, ensure_ascii=False).encode())
        for name in sorted(arrays):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return digest.hexdigest()[:16]


def _batches(rows: Any) -> Iterator[Any]:
    # A datasets.Dataset, read batch by batch.
    if hasattr(rows, "with_format") and hasattr(rows, "features"):
        yield from rows.with_format("arrow").iter(batch_size=BATCH_ROWS)
    elif isinstance(rows, WHOLE) or hasattr(rows, "iloc") or is_list_of_rows(rows) or not isinstance(rows, Iterable):
        yield rows  # what is no table is refused where it is read
    else:
        yield from rows
