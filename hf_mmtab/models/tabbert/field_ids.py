"""What a model and a collator need to know of a processor's ids."""

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .column_plan import ColumnPlan
from .field import Field
from .text_numbers import is_text

SEP_FIELD = "[SEP]"
TIMES = r"^(\d{4}-\d\d-\d\d|(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\.\d{6,9}Z?)$"  # as Arrow writes them


def _all_times(values: pa.Array) -> bool:
    return is_text(values.type) and bool(pc.all(pc.match_substring_regex(values, TIMES)).as_py())


class FieldIds:
    """Mixin of `TabBertProcessor`: the ranges of its ids, after fitting."""

    plan: ColumnPlan
    rows_fitted: int
    _fitted: list[Field]
    _state: Any

    @property
    def is_fitted(self) -> bool:
        """Whether `fit`, `finish` or loading has given out ids."""
        return bool(self._fitted)

    def _require_fitted(self) -> None:
        if not self._fitted:
            raise ValueError(
                "This TabBertProcessor is not fitted yet. Call `fit(rows)` with the training rows first."
            )

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

    def config_kwargs(self) -> dict[str, Any]:
        """Return what `TabBertConfig(**kwargs)` must share with this processor."""
        return {
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

    def typed_columns(self) -> list[str]:
        """Return the columns whose categories were learned as dates or times, or may have been before they were hashed.

        The same cells as text, written in another way, would not be found.
        """
        return [
            f.source for f in self._fitted if f.buckets or (f.values is not None and _all_times(f.values))
        ]

    def static_fields(self) -> list[bool]:
        """Return for each column whether it is the same in all rows of an entity."""
        return [f.static for f in self.plan.fields] + ([False] if self.plan.sep_column else [])

    @property
    def fingerprint(self) -> str:
        """Hash of the plan and everything fitted: 16 hexadecimal digits, equal if and only if the ids are."""
        self._require_fitted()
        plain, words, arrays = self._state()
        digest = hashlib.sha256(json.dumps([plain, words], sort_keys=True, ensure_ascii=False).encode())
        for name in sorted(arrays):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return digest.hexdigest()[:16]

    def check_config(self, config: Any) -> None:
        """Raise a ValueError if a model's config was built with another processor's ids."""
        theirs = getattr(config, "processor_fingerprint", None)
        if theirs is not None and theirs != self.fingerprint:
            raise ValueError(
                f"The model was trained with the ids of processor {theirs}, found processor"
                f" {self.fingerprint}: every id would mean something else. Load the processor that was saved"
                " with the checkpoint."
            )
