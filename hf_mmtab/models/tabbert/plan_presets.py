"""Column plans with a name: those of the card and PRSA tables, ours and the paper's."""

from pathlib import Path
from typing import Any

from .column_plan import ORIGINAL_SPECIAL_TOKENS, ColumnPlan, FieldPlan


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
            FieldPlan("Timestamp.month", "time_part", part="month", keep="covered"),
            FieldPlan("Timestamp.weekday", "time_part", part="weekday", keep="covered"),
            FieldPlan("Timestamp.hour", "time_part", part="hour", keep="covered"),
            FieldPlan("Timestamp.gap", "time_gap", transform="log1p", binning="tails"),
            FieldPlan("Amount", "money", binning="tails"),
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
        return FieldPlan(name, kind, column=column, num_bins=num_bins, transform=transform, binning="original")

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
    """Return the default plan of the Beijing air tables: calendar parts, 50 bins each and tails, wind direction."""
    parts = [FieldPlan(f"timestamp.{p}", "time_part", part=p, keep="covered") for p in ("month", "weekday", "hour")]
    return ColumnPlan(
        entity=("station",),
        time="timestamp",
        label=("PM2.5", "PM10"),
        fields=(
            *parts,
            *(FieldPlan(c, "numeric", num_bins=50, binning="tails") for c in PRSA_NUMBERS),
            FieldPlan("wd"),
        ),
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


PLANS = {"card": card_plan, "paper_card": paper_card_plan, "prsa": prsa_plan, "paper_prsa": paper_prsa_plan}


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
