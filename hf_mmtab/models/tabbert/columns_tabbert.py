"""Which columns of a table become which fields: the column plan, its YAML form, inference and presets."""

import difflib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from transformers.utils import logging

from .strict_yaml import read_mapping

logger = logging.get_logger(__name__)

KINDS = ("categorical", "numeric", "money", "sign", "time_part", "time_gap")
BINNED_KINDS = ("numeric", "money", "time_gap")
TIME_PARTS = {"month": 12, "day": 31, "weekday": 7, "hour": 24, "minute": 60}
TRANSFORMS = ("none", "log1p", "log_floor_1", "minmax")
BINNINGS = ("merged", "original")
SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
# Order of IBM/TabFormer at ebb7cd6, vocab.py, so that its checkpoints keep their ids.
ORIGINAL_SPECIAL_TOKENS = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]", "[BOS]", "[EOS]")


def check_keys(given: Any, known: list[str], where: str) -> None:
    """Raise a ValueError naming the first unknown key of `given`, with the nearest known one."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"Unknown key {key!r} in {where}.{hint} Known keys: {', '.join(known)}.")


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
    binning: str = "merged"  # "original": edges never merge, bins not met have no id, quantiles exact
    part: str | None = None  # time_part: month, day, weekday, hour or minute
    fill: str | int | float | None = None  # stands for a missing value instead of [MISSING]

    def __post_init__(self) -> None:
        choices = {"kind": KINDS, "transform": TRANSFORMS, "binning": BINNINGS}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"Field {self.name!r}: {key} must be one of {', '.join(allowed)}, got"
                    f" {getattr(self, key)!r}."
                )
        if self.kind == "time_part" and self.part not in TIME_PARTS:
            raise ValueError(
                f"Field {self.name!r}: part must be one of {', '.join(TIME_PARTS)}, got {self.part!r}."
            )
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


@dataclass(frozen=True)
class ColumnPlan:
    """The whole table: who the rows belong to, their order, the label, and the fields in the order of the
    input.

    Example of the YAML form:

    ```yaml
    entity: [User, Card]      # a window never spans two entities
    time: Timestamp           # rows of an entity are ordered by it
    label: Is Fraud?          # never an input
    fields:
      Amount: {kind: money, num_bins: 32}
      Timestamp.hour: {kind: time_part, part: hour}
      Merchant Name: {min_count: 2}
    ```
    """

    fields: tuple[FieldPlan, ...]
    entity: tuple[str, ...] = ()
    time: str | None = None
    label: tuple[str, ...] = ()  # one column for classes, several numbers for regression
    order: str = "time"  # "file": keep the rows of an entity as they come (the original)
    sep_column: bool = False  # a [SEP] cell at the end of each row (the original)
    field_specials: bool = True  # [UNK] and [MISSING] of their own for every field; False: one [UNK] for all
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS
    label_ids: int = (
        0  # ids kept free after the fields; the original's vocabulary has the label's values there
    )
    hash_above: int = 1_000_000  # a vocabulary with more values turns into hash_buckets
    extra: dict[str, Any] = field(default_factory=dict)  # notes of the user, kept as they are

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("A column plan needs at least one field, found none.")
        names = [f.name for f in self.fields]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"Expected different names of fields, found {twice} more than once.")
        if self.order not in ("time", "file"):
            raise ValueError(f"order must be 'time' or 'file', got {self.order!r}.")
        missing = [t for t in ("[PAD]", "[CLS]", "[SEP]", "[MASK]") if t not in self.special_tokens]
        if not self.field_specials and "[UNK]" not in self.special_tokens:
            missing.append("[UNK]")
        if missing:
            raise ValueError(f"special_tokens must contain {missing}, found {list(self.special_tokens)}.")
        for plan in self.fields:
            if self.source(plan) is None:
                raise ValueError(
                    f"Field {plan.name!r} of kind {plan.kind} needs the plan's time column: set `time`."
                )
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
        wanted = [
            *self.entity,
            *([self.time] if self.time else []),
            *(str(self.source(f)) for f in self.fields),
        ]
        return list(dict.fromkeys(wanted))

    @property
    def required(self) -> list[str]:
        """Columns in which every row must have a value: whose it is, and when it was."""
        return list(dict.fromkeys([*self.entity, *([self.time] if self.time else [])]))

    @property
    def roles(self) -> dict[str, str]:
        """Columns that must hold a "time" or an "amount" (a number, or money), as the fields read them."""
        kinds: dict[str, set[str]] = {self.time: {"time_gap"}} if self.time else {}
        for plan in self.fields:
            kinds.setdefault(str(self.source(plan)), set()).add(plan.kind)
        roles = {name: "time" for name, found in kinds.items() if found & {"time_part", "time_gap"}}
        for name, found in kinds.items():
            if name not in (*self.entity, *roles) and found <= {"numeric", "money", "sign"}:
                roles[name] = "amount"
        return roles

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
            check_keys(settings or {}, known, f"field {name!r}")
            parsed.append(FieldPlan(name=str(name), **(settings or {})))
        rest = {k: v for k, v in plan.items() if k != "fields"}
        for key in ("entity", "label", "special_tokens"):
            if key in rest:
                rest[key] = (rest[key],) if isinstance(rest[key], str) else tuple(rest[key] or ())
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
        plan = replace(self, **changes).to_dict()
        for name, settings in edits.items():
            if settings is None:
                plan["fields"].pop(name)
            else:
                plan["fields"][name] = {**plan["fields"].get(name, {}), **settings}
        return ColumnPlan.from_dict(plan)


def infer_plan(
    sample: pl.DataFrame,
    entity: str | list[str] | None = None,
    time: str | None = None,
    label: str | list[str] | None = None,
    max_category_values: int = 256,
) -> ColumnPlan:
    """Guess a plan from the first rows of a table; print it with `to_yaml` and edit what is wrong.

    Text and yes/no columns become categories, text with a currency sign money; whole numbers become
    categories when they have few values or look like identifiers (beyond 32 bits), else bins; other numbers
    become bins. The time column gives hour, weekday, month and the gap to the previous row. Columns that
    never change within an entity become static fields. Columns with one value per row (identifiers of the
    row) or one value at all are left out.

    Args:
        sample: a few thousand rows or more, columns typed.
        entity: columns that name whose history a row belongs to; None: the table is one history.
        time: timestamp (or number) that orders rows; None: the only timestamp column, if there is just one.
        label: columns to predict, never an input.

    Raises:
        ValueError: if a named column is absent.
    """
    entity = [entity] if isinstance(entity, str) else list(entity or [])
    label = [label] if isinstance(label, str) else list(label or [])
    if time is None:
        stamps = [c for c, t in sample.schema.items() if t in (pl.Datetime, pl.Date) and c not in label]
        time = stamps[0] if len(stamps) == 1 else None
    absent = [c for c in [*entity, *([time] if time else []), *label] if c not in sample.columns]
    if absent:
        raise ValueError(f"Expected columns {absent}, found {sample.columns}. Check entity, time and label.")
    planned: list[FieldPlan] = []
    if time is not None:
        if sample.schema[time] in (pl.Datetime, pl.Date):
            planned += _time_fields(sample, time, time)
        planned.append(FieldPlan(name=f"{time}.gap", kind="time_gap", column=time, transform="log1p"))
    for column, dtype in sample.schema.items():
        if column in (*entity, time, *label):
            continue
        guess = _guess(sample[column], dtype, column, max_category_values)
        static = bool(entity) and _is_static(sample, entity, column)
        planned += [replace(g, static=static) for g in guess]
    return ColumnPlan(fields=tuple(planned), entity=tuple(entity), time=time, label=tuple(label))


def _time_fields(sample: pl.DataFrame, column: str, prefix: str) -> list[FieldPlan]:
    parts = ["month", "weekday"]
    if sample.schema[column] != pl.Date and (sample[column].dt.hour() != 0).any():
        parts.append("hour")
    return [FieldPlan(name=f"{prefix}.{p}", kind="time_part", column=column, part=p) for p in parts]


def _guess(values: pl.Series, dtype: pl.DataType, name: str, max_category_values: int) -> list[FieldPlan]:
    if dtype.is_nested():
        logger.warning(f"Column {name!r} holds {dtype}, which no field can read: left out of the plan.")
        return []
    present = values.drop_nulls()
    distinct = present.n_unique()
    if distinct + (len(present) < len(values)) <= 1:  # a missing value says something, too
        found = f"nothing but {present[0]!r}" if distinct else "no value"
        logger.warning(f"Column {name!r} holds {found} in the sample: left out of the plan.")
        return []
    if distinct <= 1:
        return [FieldPlan(name=name)] if distinct else []
    if dtype == pl.Duration:
        return [FieldPlan(name=name, kind="numeric")]
    if dtype == pl.Time:
        return [FieldPlan(name=f"{name}.hour", kind="time_part", column=name, part="hour")]
    if dtype.is_temporal():
        return _time_fields(values.to_frame(), name, name)
    if dtype == pl.String:
        if _share(present.str.contains(r"^\s*\(?-?[$€£¥]")) > 0.95:
            return [
                FieldPlan(name=name, kind="money"),
                FieldPlan(name=f"{name}.sign", kind="sign", column=name),
            ]
        if distinct == len(present) and distinct > max_category_values:
            logger.warning(f"Column {name!r} has a new value in every row: left out of the plan.")
            return []
    if dtype.is_integer():
        if distinct <= max_category_values or _beyond_32_bits(present):
            return [FieldPlan(name=name)]
        return [FieldPlan(name=name, kind="numeric")]
    if dtype.is_float() or dtype.is_decimal():
        return [FieldPlan(name=name, kind="numeric")]
    return [FieldPlan(name=name)]


def _share(flags: pl.Series) -> float:
    return float(flags.to_numpy().mean())


def _beyond_32_bits(values: pl.Series) -> bool:
    return bool(np.abs(values.to_numpy().astype(np.float64)).max() >= 2**31)


def _is_static(sample: pl.DataFrame, entity: list[str], column: str) -> bool:
    per_entity = sample.group_by(entity).agg(pl.len(), pl.col(column).n_unique().alias("values"))
    repeated = per_entity.filter(pl.col("len") > 1)
    return len(repeated) > 1 and bool((repeated["values"] == 1).all())


def card_plan() -> ColumnPlan:
    """Return the default plan of the card tables: history per card, no user id."""
    # NOTE[DIFF] The default plan for card payments has no user id, but month, weekday, hour, the time since the payment
    # before, and the sign of the amount. The original has the user's id and one timestamp of 10 global bins, which
    # holds neither hour nor weekday nor the time between two payments; a refund is a payment of one dollar there.
    return ColumnPlan(
        entity=("User", "Card"),
        time="Timestamp",
        label=("Is Fraud?",),
        fields=(
            FieldPlan("Timestamp.month", "time_part", part="month"),
            FieldPlan("Timestamp.weekday", "time_part", part="weekday"),
            FieldPlan("Timestamp.hour", "time_part", part="hour"),
            FieldPlan("Timestamp.gap", "time_gap", transform="log1p"),
            FieldPlan("Amount", "money"),
            FieldPlan("Amount.sign", "sign", column="Amount"),
            FieldPlan("Use Chip"),
            FieldPlan("Merchant Name", min_count=2),
            FieldPlan("Merchant City"),
            FieldPlan("Merchant State"),
            FieldPlan("Zip"),
            FieldPlan("MCC"),
            FieldPlan("Errors?"),
        ),
    )


def paper_card_plan(num_bins: int = 10, skip_user: bool = False, sep_column: bool = True) -> ColumnPlan:
    """Return the plan of IBM/TabFormer at ebb7cd6 (dataset/card.py) for the card table.

    Args:
        num_bins: bins of Timestamp and Amount.
        skip_user: leave the user's id out of the fields; rows are grouped by it all the same.
        sep_column: True for BERT; False for the rows that the original feeds to GPT-2.
    """

    def binned(name: str, kind: str, transform: str, column: str | None = None) -> FieldPlan:
        return FieldPlan(
            name, kind, column=column, num_bins=num_bins, transform=transform, binning="original"
        )

    listed = [
        FieldPlan("User"),
        FieldPlan("Card"),
        binned("Timestamp", "numeric", "minmax"),
        binned("Amount", "money", "log_floor_1"),
        FieldPlan("Use Chip", fill="None"),
        FieldPlan("Merchant Name"),
        FieldPlan("Merchant City"),
        FieldPlan("Merchant State", fill="None"),
        FieldPlan("Zip", fill=0),
        FieldPlan("MCC"),
        FieldPlan("Errors?", fill="None"),
    ]
    return ColumnPlan(
        fields=tuple(listed[1:] if skip_user else listed),
        entity=("User",),
        time="Timestamp",
        label=("Is Fraud?",),
        order="file",
        sep_column=sep_column,
        field_specials=False,
        special_tokens=ORIGINAL_SPECIAL_TOKENS,
        label_ids=2,
        hash_above=2**40,
    )


PRSA_NUMBERS = ("SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM")


def prsa_plan() -> ColumnPlan:
    """Return the default plan of the Beijing air tables: calendar parts, 50 bins each, wind direction."""
    parts = [FieldPlan(f"timestamp.{p}", "time_part", part=p) for p in ("month", "weekday", "hour")]
    return ColumnPlan(
        entity=("station",),
        time="timestamp",
        label=("PM2.5", "PM10"),
        fields=(*parts, *(FieldPlan(c, "numeric", num_bins=50) for c in PRSA_NUMBERS), FieldPlan("wd")),
    )


def paper_prsa_plan(num_bins: int = 50) -> ColumnPlan:
    """Return the fields of the paper for PRSA: everything in 50 bins but the wind direction, and [SEP]."""
    # NOTE[DIFF] A missing measurement of PRSA is the field's [MISSING]; quantile bins come from the values that are
    # there.
    numbers = ("timestamp", *PRSA_NUMBERS)
    return ColumnPlan(
        entity=("station",),
        time="timestamp",
        label=("PM2.5", "PM10"),
        sep_column=True,
        fields=(*(FieldPlan(c, "numeric", num_bins=num_bins) for c in numbers), FieldPlan("wd")),
    )


PLANS = {
    "card": card_plan,
    "paper_card": paper_card_plan,
    "prsa": prsa_plan,
    "paper_prsa": paper_prsa_plan,
}


def resolve_plan(plan: "str | Path | dict[str, Any] | ColumnPlan") -> ColumnPlan:
    """Return the plan behind a preset's name (`card`, `paper_card`, `prsa`, `paper_prsa`), a YAML path or a
    dict.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(plan, ColumnPlan):
        return plan
    if isinstance(plan, dict):
        return ColumnPlan.from_dict(plan)
    if str(plan) in PLANS:
        return PLANS[str(plan)]()
    if Path(plan).is_file():
        return ColumnPlan.from_yaml(plan)
    raise ValueError(
        f"Expected a column plan: one of {', '.join(PLANS)}, a YAML file, or a dict; found {str(plan)!r}, "
        "which is neither a preset nor a file."
    )
