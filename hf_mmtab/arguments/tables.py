"""Recipe keys of tables: how rows are read, encoded, split and cut into windows; pretraining on them."""

from dataclasses import dataclass, field, fields
from typing import Literal

from huggingface_hub.dataclasses import strict

from .common import DataArguments, ModelArguments, RunArguments, UnknownArguments


@strict
@dataclass(kw_only=True)
class TableFileArguments:
    """How files of tables are read."""

    types: dict | None = field(
        default=None,
        metadata={
            "help": "Column → string, int, float, bool, date, timestamp, or a format such as '%d/%m/%Y %H:%M'. "
            "Default: guessed."
        },
    )
    separator: str | None = field(default=None, metadata={"help": "Of CSV files; default by their ending."})
    missing: list[str] | None = field(
        default=None,
        metadata={
            "help": "Texts that stand for a missing value, beside the empty cell; default NA, N/A, NaN, nan, "
            "null, NULL. []: none."
        },
    )


@strict
@dataclass(kw_only=True)
class PlanArguments:
    """The column plan: what each column is to the model."""

    plan: dict | str | None = field(
        default=None,
        metadata={
            "help": "Column plan: card, paper_card, prsa, paper_prsa, a YAML file, or a mapping. Default: the "
            "task's own; for `table`, guessed from its first rows and written to `column_plan.yaml`."
        },
    )
    plan_edits: dict | None = field(
        default=None,
        metadata={"help": "Field → settings that change in the plan; null removes the field."},
    )
    num_bins: int | None = field(
        default=None,
        metadata={"least": 1, "help": "Quantile bins of every numeric field; default the plan's."},
    )
    entity_columns: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Whose history a row belongs to; default the plan's, else the table is one history."
        },
    )
    time_column: str | None = field(default=None, metadata={"help": "Orders the rows; default the plan's."})
    label_columns: list[str] = field(
        default_factory=list, metadata={"help": "Never an input; default the plan's."}
    )

    def given_plan(self) -> list[str]:
        """Return the keys of the plan that the recipe gives."""
        return [one.name for one in fields(PlanArguments) if getattr(self, one.name)]


@strict
@dataclass(kw_only=True)
class TableDataArguments(DataArguments, TableFileArguments, PlanArguments):
    """A table of events: which rows, which columns, how it is split and cut into windows."""

    simulate: dict | None = field(
        default=None,
        metadata={"help": "For simulated:cards: users (100), rows (100000), fraud_rate (0.001), seed (0)."},
    )
    entities: list[str] = field(
        default_factory=list,
        metadata={"help": "Keep only rows whose first entity column is one of these (--user_ids)."},
    )
    split: Literal["time", "entity", "paper"] = field(
        default="time",
        metadata={
            "help": "time: earlier rows train, later ones test. entity: no entity in two splits. paper: random "
            "windows, which leak."
        },
    )
    split_fractions: list[float] = field(
        default_factory=list,
        metadata={"help": "Train, validation and test; default .7 .1 .2, for paper .6 .2 .2."},
    )
    seq_len: int = field(default=10, metadata={"least": 1, "help": "Rows of a window."})
    stride: int = field(
        default=5,
        metadata={
            "least": 1,
            "help": "Rows between training windows. Fine-tuning's own default: 1 where the last row is judged, else "
            "seq_len.",
        },
    )
    eval_stride: int | None = field(
        default=None,
        metadata={
            "least": 1,
            "help": "Rows between validation and test windows; default seq_len, for paper `stride`, and 1 where the "
            "last row is judged.",
        },
    )
    max_gap: float | None = field(
        default=None, metadata={"help": "Seconds; a longer pause ends a history, no window spans it."}
    )
    pad_windows: bool = field(
        default=True,
        metadata={"help": "Pad histories shorter than a window; false leaves them out, as the original."},
    )

    def validate_max_gap(self):
        if self.max_gap is not None and self.max_gap <= 0:
            raise ValueError(
                f"Expected max_gap in seconds, above 0, found {self.max_gap}. Leave it out for histories without end."
            )


@strict
@dataclass(kw_only=True)
class TabBertSizes:
    """TabBERT's sizes and loss. What is left out is the configuration's default, or the preset's."""

    flatten: bool | None = field(
        default=None, metadata={"help": "One sequence of all cells in place of the hierarchy."}
    )
    field_hidden_size: int | None = field(
        default=None, metadata={"least": 1, "help": "Width of a cell (64)."}
    )
    field_num_layers: int | None = field(
        default=None, metadata={"least": 1, "help": "Layers over the fields of a row (1)."}
    )
    field_num_heads: int | None = field(
        default=None, metadata={"least": 1, "help": "Heads of those layers (8)."}
    )
    hidden_size: int | None = field(default=None, metadata={"least": 1, "help": "Width of a row (256)."})
    num_hidden_layers: int | None = field(
        default=None, metadata={"least": 1, "help": "Layers over the rows (4)."}
    )
    num_attention_heads: int | None = field(
        default=None, metadata={"least": 1, "help": "Heads of those layers (4)."}
    )
    intermediate_size: int | None = field(
        default=None, metadata={"least": 1, "help": "Feed-forward width (1024)."}
    )
    position_initializer_range: float | None = field(
        default=None,
        metadata={"help": "Size of position embeddings at the start; default: that of the row vectors."},
    )
    mlm_loss: Literal["field", "vocab"] | None = field(
        default=None, metadata={"help": "Softmax over the ids of a cell's field, or over all ids."}
    )
    tie_word_embeddings: bool | None = field(
        default=None, metadata={"help": "Score cells with their own embeddings."}
    )
    adaptive_softmax_threshold: int | None = field(
        default=None,
        metadata={
            "least": 1,
            "help": "Fields with more ids use an adaptive softmax. For thousands of them: rarer ids are scored in a "
            "4 and 16 times narrower space.",
        },
    )
    neighbor_smoothing: float | None = field(
        default=None,
        metadata={
            "least": 0,
            "most": 1,
            "help": "Share of the target that goes to the adjacent bins of a number.",
        },
    )
    next_row: bool | None = field(
        default=None,
        metadata={
            "help": "Each row sees earlier rows only and is predicted from them whole; nothing is masked. Set "
            "mask_unknown too."
        },
    )


@strict
@dataclass(kw_only=True)
class TabBertModelArguments(ModelArguments, TabBertSizes):
    """TabBERT for pretraining."""

    preset: Literal["paper"] | None = field(
        default=None,
        metadata={
            "help": "paper: 12 layers, as many heads as columns, hidden size columns × field_hidden_size."
        },
    )
    dropout: float | None = field(
        default=None, metadata={"least": 0, "most": 1, "help": "Everywhere in the encoder (0.1)."}
    )

    def given_sizes(self) -> list[str]:
        """Return the keys of sizes that the recipe gives."""
        keys = [*(one.name for one in fields(TabBertSizes)), "preset", "dropout"]
        return [key for key in keys if getattr(self, key) is not None]

    def sizes(self) -> dict[str, object]:
        """Return the keys of the configuration that the recipe gives."""
        given = {one.name: getattr(self, one.name) for one in fields(TabBertSizes)}
        given |= dict.fromkeys(
            ("hidden_dropout_prob", "attention_probs_dropout_prob", "field_dropout_prob"), self.dropout
        )
        return {name: value for name, value in given.items() if value is not None}


@strict
@dataclass(kw_only=True)
class PretrainingArguments(RunArguments, UnknownArguments):
    """What pretraining on a table masks, and what a run does around its training."""

    mlm_probability: float = field(
        default=0.15,
        metadata={"least": 0, "most": 1, "help": "Share of the cells that are masked and predicted."},
    )
    whole_row_masking: float = field(
        default=0.0,
        metadata={"least": 0, "most": 1, "help": "Probability that a row is masked as a whole, on top."},
    )
    mask_share: float = field(
        default=0.8, metadata={"least": 0, "most": 1, "help": "Of the masked cells: become [MASK]."}
    )
    random_share: float = field(
        default=0.1,
        metadata={
            "least": 0,
            "most": 1,
            "help": "Of the masked cells: become another value of the field; the rest stay.",
        },
    )
    mask_unknown: bool = field(
        default=False, metadata={"help": "Also predict cells whose value is not in the vocabulary ([UNK])."}
    )
