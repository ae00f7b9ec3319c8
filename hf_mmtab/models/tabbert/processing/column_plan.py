"""The column plan: which columns of a table become which fields, and its YAML form."""

import difflib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import yaml

from .strict_yaml import read_mapping

KINDS = ("categorical", "numeric", "money", "sign", "time_part", "time_gap")
BINNED_KINDS = ("numeric", "money", "time_gap")
TIME_PARTS = {"month": 12, "day": 31, "weekday": 7, "hour": 24, "minute": 60}
TIME_UNITS = ("s", "ms", "us", "ns", "number")
TRANSFORMS = ("none", "log1p", "log_floor_1", "minmax")
BINNINGS = ("merged", "tails", "original")
KEPT = ("always", "covered")
SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
# Order of IBM/TabFormer at ebb7cd6, vocab.py, so that its checkpoints keep their ids.
ORIGINAL_SPECIAL_TOKENS = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]", "[BOS]", "[EOS]")


def check_keys(given: Any, known: list[str], where: str) -> None:
    """Raise a ValueError unless `given` is a mapping of known keys; names an unknown one, and the nearest known."""
    if not isinstance(given, dict):
        raise ValueError(
            f"Expected a mapping of settings for {where}, found {given!r}. Known keys: {', '.join(known)}."
        )
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"Unknown key {key!r} in {where}.{hint} Known keys: {', '.join(known)}.")


TYPES = {
    str: "a text", bool: "true or false", int: "a whole number", float: "a number", tuple: "a list", dict: "a mapping",
}  # fmt: skip


def _check_types(plan: Any, where: str) -> None:
    """Raise a ValueError for a setting of another type than its field has; true is no whole number."""
    for one in fields(plan):
        kinds = get_args(one.type) if isinstance(one.type, UnionType) else (get_origin(one.type) or one.type,)
        value = getattr(plan, one.name)
        if type(value) not in kinds or value in (math.inf, -math.inf) or value != value:
            expected = " or ".join(TYPES[kind] for kind in kinds if kind is not NoneType)
            raise ValueError(f"{where}: {one.name} must be {expected}, got {value!r}. Correct it, or leave it out.")


def _names(value: Any, key: str) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else () if value is None else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"Expected the name of a column, or a list of names, for {key!r} of the column plan, found {value!r}. Put "
            "names that look like numbers in quotes."
        )
    return tuple(names)


@dataclass(frozen=True)
class FieldPlan:
    """How one column becomes one field, that is one token per row.

    Kinds: `categorical` (a vocabulary, by frequency), `numeric` (quantile bins), `money` (numbers or text
    such as `$-12.30`, then quantile bins), `sign` (negative, zero, positive), `time_part` (calendar part of a
    timestamp), `time_gap` (seconds since the entity's previous row, quantile bins).
    """

    name: str
    kind: str = "categorical"
    column: str | None = None  # None: the column called like the field; of time kinds, the time column
    static: bool = False  # the same in all rows of an entity: masked in all rows of a window or in none
    min_count: int = 1  # categorical: rarer values become [UNK]
    max_values: int | None = None  # categorical: keep only the most frequent values
    hash_buckets: int | None = None  # categorical: hash into that many ids instead of a vocabulary
    num_bins: int = 32  # binned kinds: quantile bins, equal edges merge
    transform: str = "none"  # binned kinds: applied before the quantiles
    # "tails": bins of their own for the smallest and largest numbers, beside num_bins; "original": edges never merge,
    # bins not met have no id, quantiles exact
    binning: str = "merged"
    part: str | None = None  # time_part: month, day, weekday, hour or minute
    keep: str = "always"  # "covered": a time_part stays only if the training rows go through its whole cycle
    fill: str | bool | int | float | None = None  # stands for a missing value instead of [MISSING]

    def __post_init__(self) -> None:
        _check_types(self, f"Field {self.name!r}")
        choices = {"kind": KINDS, "transform": TRANSFORMS, "binning": BINNINGS, "keep": KEPT}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"Field {self.name!r}: {key} must be one of {', '.join(allowed)}, got {getattr(self, key)!r}."
                )
        if self.kind == "time_part" and self.part not in TIME_PARTS:
            raise ValueError(f"Field {self.name!r}: part must be one of {', '.join(TIME_PARTS)}, got {self.part!r}.")
        if self.kind in BINNED_KINDS and self.num_bins < 2:
            raise ValueError(f"Field {self.name!r}: num_bins must be at least 2, got {self.num_bins}.")
        for key in ("min_count", "max_values", "hash_buckets"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"Field {self.name!r}: {key} must be at least 1, got {value}.")

    @property
    def is_binned(self) -> bool:
        """Whether the field's ids are ordered bins of a number."""
        return self.kind in BINNED_KINDS

    def to_dict(self) -> dict[str, Any]:
        """Return the keys that differ from their defaults, without the name."""
        plain = {f.name: f.default for f in fields(self) if f.name != "name"}
        return {"kind": self.kind} | {
            k: v for k, v in asdict(self).items() if k in plain and v != plain[k] and k != "kind"
        }


def refuse_repeated_columns(entity: Iterable[str], label: Iterable[str]) -> None:
    """Raise a ValueError if a column is twice among entity and label columns: a label is never an input."""
    if twice := sorted(name for name, n in Counter((*entity, *label)).items() if n > 1):
        raise ValueError(
            f"Expected entity and label columns that are all different, found {twice} more than once. Correct "
            "entity_columns and label_columns."
        )


@dataclass(frozen=True)
class ColumnPlan:
    """The whole table: who the rows belong to, their order, the label, and the fields in the order of the
    input.

    Example of the YAML form:

    ```yaml
    entity: [User, Card]      # a window never spans two entities
    time: Timestamp           # rows of an entity are ordered by it
    label: Is Fraud?          # never an input
    statistics: [rhythm, "*: surprise"]  # of the past, for fine-tuning; left out: all
    fields:
      Amount: {kind: money, num_bins: 32}
      Timestamp.hour: {kind: time_part, part: hour}
      Merchant Name: {min_count: 2}
    ```
    """

    fields: tuple[FieldPlan, ...]
    entity: tuple[str, ...] = ()
    time: str | None = None
    # of a time column of numbers: s, ms, us or ns since 1970, or "number", which only orders rows and counts as
    # seconds; None: whole numbers are us (as version 0.1 had it), others s
    time_unit: str | None = None
    # columns of texts such as 03/04/2024 that the training table wrote with the month first
    month_first: tuple[str, ...] = ()
    label: tuple[str, ...] = ()  # one column for classes, several numbers for regression
    # of the past, that heads and boosted trees read: names, patterns and groups; none: all (see `RowStatistics`)
    statistics: tuple[str, ...] = ()
    order: str = "time"  # "file": keep the rows of an entity as they come (the original)
    sep_column: bool = False  # a [SEP] cell at the end of each row (the original)
    field_specials: bool = True  # [UNK] and [MISSING] of their own for every field; False: one [UNK] for all
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    # ids kept free after the fields: the original's vocabulary has the values of the label there
    label_ids: int = 0
    hash_above: int = 1_000_000  # a vocabulary with more values turns into hash_buckets
    extra: dict[str, Any] = field(default_factory=dict)  # notes of the user, kept as they are

    def __post_init__(self) -> None:
        _check_types(self, "The column plan")
        if not self.fields:
            raise ValueError("A column plan needs at least one field, found none.")
        if twice := sorted(name for name, n in Counter(f.name for f in self.fields).items() if n > 1):
            raise ValueError(f"Expected different names of fields, found {twice} more than once.")
        refuse_repeated_columns(self.entity, self.label)
        if self.order not in ("time", "file"):
            raise ValueError(f"order must be 'time' or 'file', got {self.order!r}.")
        if self.time_unit not in (None, *TIME_UNITS):
            raise ValueError(f"time_unit must be one of {', '.join(TIME_UNITS)}, got {self.time_unit!r}.")
        missing = [t for t in ("[PAD]", "[CLS]", "[SEP]", "[MASK]") if t not in self.special_tokens]
        if not self.field_specials and "[UNK]" not in self.special_tokens:
            missing.append("[UNK]")
        if missing:
            raise ValueError(f"special_tokens must contain {missing}, found {list(self.special_tokens)}.")
        for plan in self.fields:
            if self.source(plan) is None:
                raise ValueError(f"Field {plan.name!r} of kind {plan.kind} needs the plan's time column: set `time`.")
            if self.source(plan) in self.label:
                raise ValueError(
                    f"Field {plan.name!r} reads {self.source(plan)!r}, which is the label: a label is never"
                    " an input. Remove the field, or the column from `label`."
                )

    def source(self, plan: FieldPlan) -> str | None:
        """Return the column that a field reads."""
        if plan.column is not None:
            return plan.column
        return self.time if plan.kind in ("time_part", "time_gap") else plan.name

    @property
    def columns(self) -> list[str]:
        """Every column that encoding reads, without the label."""
        wanted = [*self.entity, *([self.time] if self.time else []), *(str(self.source(f)) for f in self.fields)]
        return list(dict.fromkeys(wanted))

    @property
    def value_columns(self) -> list[str]:
        """Columns whose values fields read, the time since the row before left out."""
        return list(dict.fromkeys(str(self.source(f)) for f in self.fields if f.kind != "time_gap"))

    @property
    def reads_gaps(self) -> bool:
        """Whether a field reads the time since the entity's previous row."""
        return any(one.kind == "time_gap" for one in self.fields)

    @property
    def required(self) -> list[str]:
        """Columns in which every row must have a value: whose it is, and when it was."""
        return list(dict.fromkeys([*self.entity, *([self.time] if self.time else [])]))

    @property
    def roles(self) -> dict[str, str]:
        """Columns that hold a "time", an "amount" (a number, or money) or "text" (names of things), by their fields."""
        kinds: dict[str, set[str]] = {self.time: {"time_gap"}} if self.time else {}
        for plan in self.fields:
            kinds.setdefault(str(self.source(plan)), set()).add(plan.kind)
        roles = {name: "time" for name, found in kinds.items() if found & {"time_part", "time_gap"}}
        for name, found in kinds.items():
            if name not in (*self.entity, *roles) and found <= {"numeric", "money", "sign"}:
                roles[name] = "amount"
            elif name not in roles and found == {"categorical"}:
                roles[name] = "text"
        return dict.fromkeys([name for name in self.entity if name not in roles], "text") | roles

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; keys at their defaults are left out."""
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "fields":
                continue
            default = {} if f.name == "extra" else f.default
            if value != default:
                out[f.name] = list(value) if isinstance(value, tuple) else value
        return out | {"fields": {plan.name: plan.to_dict() for plan in self.fields}}

    @classmethod
    def from_dict(cls, plan: dict[str, Any]) -> "ColumnPlan":
        """Build a plan from its dictionary form.

        Raises:
            ValueError: for an unknown key (with the nearest known one) or a wrong value.
        """
        check_keys(plan, [f.name for f in fields(cls)], "the column plan")
        known = [f.name for f in fields(FieldPlan) if f.name != "name"]
        listed = plan.get("fields") or {}
        if isinstance(listed, list) and all(isinstance(one, dict) and "name" in one for one in listed):
            listed = {one["name"]: {k: v for k, v in one.items() if k != "name"} for one in listed}
        if not isinstance(listed, dict):
            raise ValueError(f"Expected `fields` to map names to settings, found {type(listed).__name__}.")
        parsed = []
        for name, settings in listed.items():
            check_keys(settings or {}, known, f"field {name!r} of `fields`")
            parsed.append(FieldPlan(name=str(name), **(settings or {})))
        rest = {k: v for k, v in plan.items() if k != "fields"}
        for key in ("entity", "month_first", "label", "statistics", "special_tokens"):
            if key in rest:
                rest[key] = _names(rest[key], key)
        return cls(fields=tuple(parsed), **rest)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "ColumnPlan":
        """Read a plan from a YAML file.

        Raises:
            ValueError: if it is broken, has a key twice, or says what no plan says; names file and line, or the key.
        """
        return cls.from_dict(read_mapping(path, "a column plan"))

    def to_yaml(self, path: str | Path) -> None:
        """Write the plan as YAML, to be edited and read back with `from_yaml`."""
        with open(path, "w", encoding="utf-8") as file:
            yaml.safe_dump(self.to_dict(), file, sort_keys=False, allow_unicode=True)

    def edit(self, **changes: Any) -> "ColumnPlan":
        """Return a copy with some settings changed; `fields={name: settings or None}` edits or removes
        fields.
        """
        edits = changes.pop("fields", {})
        plan = {**self.to_dict(), **changes}
        for name, settings in edits.items():
            if settings is None:
                plan["fields"].pop(name)
            elif not isinstance(settings, dict):
                raise ValueError(
                    f"Expected a mapping of settings, or null, for field {name!r} of `fields`, found {settings!r}. "
                    "For example `{amount: {num_bins: 64}}`."
                )
            else:
                plan["fields"][name] = {**plan["fields"].get(name, {}), **settings}
        return ColumnPlan.from_dict(plan)
