"""Recipe keys of tables: how rows are read, encoded, split and cut into windows; pretraining on them."""

from dataclasses import dataclass, fields
from typing import Literal

from huggingface_hub.dataclasses import strict

from ..typed_values import key
from .common import DataArguments, ModelArguments, RunArguments, UnknownArguments


@strict
@dataclass(kw_only=True)
class TableFileArguments:
    """How files of tables are read."""

    types: dict | None = key(
        None,
        "Column → string, int, float, bool, date, timestamp (as written, in local hours), utc, or a format such as "
        "'%d/%m/%Y %H:%M'. Default: guessed.",
    )
    separator: str | None = key(None, "Of CSV files; default by their ending.")
    missing: list[str] | None = key(
        None,
        "Texts that stand for a missing value, beside the empty cell; default NA, N/A, NaN, nan, null, NULL. []: none.",
    )


@strict
@dataclass(kw_only=True)
class PlanArguments:
    """The column plan: what each column is to the model."""

    plan: dict | str | None = key(
        None,
        "Column plan: card, paper_card, prsa, paper_prsa, a YAML file, or a mapping. Default: the "
        "task's own; for `table`, guessed from its first rows and written to `column_plan.yaml`.",
    )
    plan_edits: dict | None = key(None, "Field → settings that change in the plan; null removes the field.")
    num_bins: int | None = key(None, "Quantile bins of every numeric field; default the plan's.", least=1)
    entity_columns: list[str] = key(
        [], "Whose history a row belongs to; default the plan's, else the table is one history."
    )
    time_column: str | None = key(None, "Orders the rows; default the plan's.")
    label_columns: list[str] = key([], "Never an input; default the plan's.")

    def given_plan(self) -> list[str]:
        """Return the keys of the plan that the recipe gives."""
        return [one.name for one in fields(PlanArguments) if getattr(self, one.name)]


@strict
@dataclass(kw_only=True)
class TableDataArguments(DataArguments, TableFileArguments, PlanArguments):
    """A table of events: which rows, which columns, how it is split and cut into windows."""

    data: str = key("", "Folder or file of the table; simulated:cards is generated into output_dir.")
    rows: str | None = key(
        None,
        "Folder of encoded rows: `prepare` writes them there, and training reads them in place of `data`. Processor, "
        "column plan and split are the folder's.",
    )
    simulate: dict | None = key(
        None,
        "simulated:cards: users (100), rows (100000), fraud_rate (0.001), seed (0), version (1; in 2 no popular shop "
        "gives the first payment of a fraud away, in 3 no payments are heaped on one minute, too).",
    )
    entities: list[str] = key([], "Keep only rows whose first entity column is one of these (--user_ids).")
    split: Literal["time", "entity", "paper"] = key(
        "time",
        "time: earlier rows train, later ones test. entity: no entity in two splits. paper: random "
        "windows, which leak.",
    )
    split_fractions: list[float] = key([], "Train, validation, test; default .7 .1 .2, for paper .6 .2 .2.")
    seq_len: int = key(10, "Rows of a window.", least=1, most=10_000_000)
    stride: int = key(
        5,
        "Rows between training windows. Fine-tuning's own default: 1 where the last row is judged, else seq_len.",
        least=1,
    )
    eval_stride: int | None = key(
        None,
        "Rows between validation and test windows; default seq_len, for paper `stride`, and 1 where the "
        "last row is judged.",
        least=1,
    )
    max_gap: float | None = key(None, "Seconds; a longer pause ends a history, no window spans it.")
    pad_windows: bool = key(True, "Pad histories shorter than a window; false leaves them out (original).")

    def validate_source(self):
        if not self.data and self.rows is None:
            raise ValueError(
                "Expected a value for data (or rows, of encoded ones), found an empty text or none. Write one."
            )
        if not self.data:
            self.data = str(self.rows)

    def validate_max_gap(self):
        if self.max_gap is not None and self.max_gap <= 0:
            raise ValueError(
                f"Expected max_gap in seconds, above 0, found {self.max_gap}. Leave it out for histories without end."
            )


@strict
@dataclass(kw_only=True)
class TabBertSizes:
    """TabBERT's sizes and loss. What is left out is the configuration's default, or the preset's."""

    flatten: bool | None = key(None, "One sequence of all cells in place of the hierarchy.")
    field_hidden_size: int | None = key(None, "Width of a cell (64).", least=1)
    field_num_layers: int | None = key(None, "Layers over the fields of a row (1).", least=1)
    field_num_heads: int | None = key(None, "Heads of those layers (8).", least=1)
    hidden_size: int | None = key(None, "Width of a row (256).", least=1)
    num_hidden_layers: int | None = key(None, "Layers over the rows (4).", least=1)
    num_attention_heads: int | None = key(None, "Heads of those layers (4).", least=1)
    intermediate_size: int | None = key(None, "Feed-forward width (1024).", least=1)
    mlm_loss: Literal["field", "vocab"] | None = key(None, "Softmax over the ids of a field, or over all.")
    tie_word_embeddings: bool | None = key(None, "Score cells with their own embeddings.")
    adaptive_softmax_threshold: int | None = key(
        None,
        "Fields with more ids use an adaptive softmax. For thousands of them: rarer ids are scored in a "
        "4 and 16 times narrower space.",
        least=1,
    )
    neighbor_smoothing: float | None = key(
        None, "Share of the target that goes to the adjacent bins of a number.", least=0, most=1
    )
    numeric: Literal["bins", "embedding", "both"] | None = key(
        None,
        "How numbers and calendar parts are embedded. bins: a vector for each id. embedding: a function of the bin's "
        "number, or of the part's place in its cycle. both: their sum. (bins)",
    )
    next_row: bool | None = key(
        None,
        "Each row sees earlier rows only and is predicted from them whole; nothing is masked. Set mask_unknown too.",
    )


@strict
@dataclass(kw_only=True)
class TabBertModelArguments(ModelArguments, TabBertSizes):
    """TabBERT or TabGPT for pretraining."""

    architecture: Literal["tabbert", "gpt2"] = key(
        "tabbert", "gpt2: TabGPT, which predicts cell after cell and generates rows (`hf-mmtab generate`)."
    )
    preset: Literal["paper"] | None = key(
        None, "paper: 12 layers, as many heads as columns, hidden size columns × field_hidden_size."
    )
    dropout: float | None = key(None, "Everywhere in the encoder (0.1).", least=0, most=1)

    def __post_init__(self) -> None:
        if self.architecture == "gpt2" and self.pretrained is None:
            self.gpt2_sizes()  # refuses what a TabGPT has not, before a table is read

    def given_sizes(self) -> list[str]:
        """Return the keys of sizes that the recipe gives."""
        keys = [*(one.name for one in fields(TabBertSizes)), "preset", "dropout"]
        return [key for key in keys if getattr(self, key) is not None]

    def gpt2_sizes(self) -> dict[str, object]:
        """Return the sizes of a TabGPT as `GPT2Config` names them; what is left out is as in TabBERT.

        Raises:
            ValueError: for a key that says something of TabBERT alone.
        """
        shared = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "dropout")
        if foreign := [name for name in self.given_sizes() if name not in shared]:
            raise ValueError(
                f"Expected no {', '.join(foreign)} beside architecture: gpt2, whose sizes are {', '.join(shared)}. "
                f"Take them out: {' '.join(f'--{name} null' for name in foreign)}"
            )
        dropout = 0.1 if self.dropout is None else self.dropout
        return {
            "n_embd": self.hidden_size or 256,
            "n_layer": self.num_hidden_layers or 4,
            "n_head": self.num_attention_heads or 4,
            "n_inner": self.intermediate_size or 1024,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout),
        }

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

    mlm_probability: float = key(0.15, "Share of the cells that are masked and predicted.", least=0, most=1)
    whole_row_masking: float = key(0.0, "Probability to mask a row as a whole, on top.", least=0, most=1)
    mask_share: float = key(0.8, "Of the masked cells: become [MASK].", least=0, most=1)
    random_share: float = key(
        0.1, "Of the masked cells: become another value of the field; the rest stay.", least=0, most=1
    )
    mask_unknown: bool = key(False, "Also predict cells whose value is not in the vocabulary ([UNK]).")
    random_offsets: bool | None = key(
        None,
        "Each training window begins up to half a stride earlier or later, anew in each epoch, so that the place in a "
        "window tells no time of day. Default: yes, unless split is paper.",
    )
