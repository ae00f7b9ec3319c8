"""Recipe keys that are not transformers' training arguments: which data, which model, what to do after training."""

import json
from dataclasses import dataclass, field
from typing import Literal

OVERWRITE_HELP = (
    "Start anew in an output_dir that holds another run. Otherwise a run of the same recipe resumes, and any other is "
    "an error."
)
IMAGE_TEXT_ARCHITECTURES = ("mmbt", "bow", "img", "bert", "concatbow", "concatbert")


@dataclass
class RunArguments:
    """What a run does around its training."""

    compare: list[str] = field(
        default_factory=list,
        metadata={"help": "Other architectures to train under the same recipe, for the comparison table."},
    )
    seeds: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Train once with each of these seeds; the table has mean and spread. Default: `seed`."
        },
    )
    ablation: bool = field(
        default=True,
        metadata={
            "help": "After training, blank and shuffle one input at a time and report how far metrics fall."
        },
    )
    bootstrap: int = field(
        default=1000,
        metadata={"help": "Resamples behind the 95 % intervals of test metrics; 0 leaves them out."},
    )
    overwrite: bool = field(default=False, metadata={"help": OVERWRITE_HELP})
    license: str | None = field(default=None, metadata={"help": "Licence named in the model card."})


@dataclass
class ImageTextDataArguments:
    """Pictures with texts."""

    task: str = field(metadata={"help": "image_text, mmimdb, food101 or vsnli."})
    data: str = field(
        metadata={
            "help": "Folder or file of the data (JSONL, CSV, Parquet), or sample:openclipart, which ships "
            "with the package."
        }
    )
    image_column: str | None = field(default=None, metadata={"help": "Default: found by its usual names."})
    text_column: str | None = field(default=None, metadata={"help": "Default: found by its usual names."})
    text_pair_column: str | None = field(default=None, metadata={"help": "Second sentence, if there is one."})
    label_column: str | None = field(default=None, metadata={"help": "Default: found by its usual names."})
    on_bad_record: Literal["raise", "skip"] = field(
        default="raise",
        metadata={"help": "skip: leave unreadable records out, counted and listed in the report."},
    )
    allow_empty_text: bool = field(
        default=False, metadata={"help": "Keep records without a text; their picture alone is read."}
    )
    check_images: Literal["header", "decode", "off"] | None = field(
        default=None,
        metadata={
            "help": "Before training: header opens every picture once, decode reads it to its end. Default: "
            "decode where bad records are left out, else header."
        },
    )
    label_separator: str | None = field(
        default=None, metadata={"help": "Splits a text into several labels, e.g. '|' in a CSV file."}
    )
    augment: Literal["none", "flip", "crop"] = field(
        default="none",
        metadata={"help": "Random changes to training pictures; makes image features uncacheable."},
    )
    min_crop: float = field(default=0.6, metadata={"help": "Smallest share of the area that `crop` keeps."})
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"help": "Round text lengths up, e.g. to 8."}
    )
    split_seed: int = field(
        default=0, metadata={"help": "For data without splits: seed of the stratified split."}
    )
    max_rows: int | None = field(
        default=None, metadata={"help": "At most this many rows of each split (a trial)."}
    )


@dataclass
class MMBTModelArguments:
    """MMBT or one of its baselines."""

    architecture: str = field(
        default="mmbt", metadata={"help": f"One of {', '.join(IMAGE_TEXT_ARCHITECTURES)}."}
    )
    text_model: str | None = field(
        default="google-bert/bert-base-uncased",
        metadata={"help": "Hub name, folder or package:NAME of the text model."},
    )
    image_model: str | None = field(
        default="torchvision:resnet152",
        metadata={"help": "Hub name, folder, package:NAME or torchvision:NAME of the image model."},
    )
    pretrained: str | None = field(
        default=None,
        metadata={
            "help": "Hub name or folder of a whole saved model (also a converted one) to train further, with its "
            "processor and labels; the keys that describe a model do not apply then."
        },
    )
    glove_path: str | None = field(default=None, metadata={"help": "GloVe text file of bow and concatbow."})
    image_preset: Literal["backbone", "legacy"] = field(
        default="backbone",
        metadata={"help": "Picture statistics: the image model's own, or the original MMBT's."},
    )
    num_image_embeds: int = field(default=3, metadata={"help": "Image tokens, 1 to 9."})
    image_pooling: Literal["avg", "max", "none"] = field(
        default="avg", metadata={"help": "Feature map → tokens."}
    )
    segment_start: Literal["pretrained", "first"] = field(
        default="pretrained",
        metadata={
            "help": "Segment embeddings of mmbt start from the text model's, as in the original, or all from its "
            "first, that of a single text."
        },
    )
    text_position_start: int = field(
        default=0,
        metadata={
            "help": "Position of mmbt's first word: 0 as in the original; 1 as in the text model's training."
        },
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Word pieces of the text; default the model's."}
    )
    classifier_dropout: float = field(
        default=0.0, metadata={"help": "Before the classifier; the original has none."}
    )
    hidden_sizes: list[int] = field(
        default_factory=list, metadata={"help": "Hidden layers of the concat baselines."}
    )
    hidden_batch_norm: bool = field(
        default=True, metadata={"help": "BatchNorm in those layers (--include_bn)."}
    )
    hidden_dropout: float = field(default=0.1, metadata={"help": "Dropout in those layers (--dropout)."})
    modal_dropout: float = field(default=0.0, metadata={"help": "Probability to drop a picture in training."})
    modal_dropout_text: float = field(
        default=0.0, metadata={"help": "Probability to drop a text in training."}
    )
    word_dropout: float = field(
        default=0.0, metadata={"help": "Probability to hide each word piece in training."}
    )
    null_image: Literal["mask", "learned"] = field(
        default="mask", metadata={"help": "What an absent picture is."}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa (default), eager, …"})


@dataclass
class PretrainingArguments:
    """What pretraining on a table masks, and what a run does around its training."""

    mlm_probability: float = field(
        default=0.15, metadata={"help": "Share of the cells that are masked and predicted."}
    )
    whole_row_masking: float = field(
        default=0.0, metadata={"help": "Probability that a row is masked as a whole, on top."}
    )
    mask_share: float = field(default=0.8, metadata={"help": "Of the masked cells: become [MASK]."})
    random_share: float = field(
        default=0.1,
        metadata={"help": "Of the masked cells: become another value of the field; the rest stay."},
    )
    mask_unknown: bool = field(
        default=False, metadata={"help": "Also predict cells whose value is not in the vocabulary ([UNK])."}
    )
    overwrite: bool = field(default=False, metadata={"help": OVERWRITE_HELP})
    license: str | None = field(default=None, metadata={"help": "Licence named in the model card."})


@dataclass
class TableDataArguments:
    """A table of events: which rows, which columns, how it is split and cut into windows."""

    task: str = field(metadata={"help": "card_transactions, prsa or table (anybody's)."})
    data: str = field(
        metadata={
            "help": "Table file or folder of them (CSV, TSV, Parquet, Arrow), or simulated:cards, which is "
            "generated into output_dir."
        }
    )
    simulate: dict | str | None = field(
        default=None,
        metadata={"help": "For simulated:cards: users (100), rows (100000), fraud_rate (0.001), seed (0)."},
    )
    types: dict | str | None = field(
        default=None,
        metadata={
            "help": "Column → string, int, float, bool, date, timestamp, or a format such as '%d/%m/%Y %H:%M'. "
            "Default: guessed."
        },
    )
    separator: str | None = field(default=None, metadata={"help": "Of CSV files; default by their ending."})
    on_bad_record: Literal["raise", "skip"] = field(
        default="raise", metadata={"help": "skip: leave broken rows out, counted and listed in the report."}
    )
    max_rows: int | None = field(default=None, metadata={"help": "Read only the first rows (a trial)."})
    plan: dict | str | None = field(
        default=None,
        metadata={
            "help": "Column plan: card, paper_card, prsa, paper_prsa, a YAML file, or a mapping. Default: the "
            "task's own; for `table`, guessed from its first rows and written to `column_plan.yaml`."
        },
    )
    plan_edits: dict | str | None = field(
        default=None,
        metadata={"help": "Field → settings that change in the plan; null removes the field."},
    )
    num_bins: int | None = field(
        default=None, metadata={"help": "Quantile bins of every numeric field; default the plan's."}
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
    split_seed: int = field(default=0, metadata={"help": "Of the entity and paper splits."})
    seq_len: int = field(default=10, metadata={"help": "Rows of a window."})
    stride: int = field(
        default=5,
        metadata={
            "help": "Rows between training windows. Fine-tuning's own default: 1 where the last row is judged, else "
            "seq_len."
        },
    )
    eval_stride: int | None = field(
        default=None,
        metadata={
            "help": "Rows between validation and test windows; default seq_len, for paper `stride`, and 1 where the "
            "last row is judged."
        },
    )
    max_gap: float | None = field(
        default=None, metadata={"help": "Seconds; a longer pause ends a history, no window spans it."}
    )
    pad_windows: bool = field(
        default=True,
        metadata={"help": "Pad histories shorter than a window; false leaves them out, as the original."},
    )

    def __post_init__(self) -> None:
        if self.max_gap is not None and self.max_gap <= 0:
            raise ValueError(
                f"Expected max_gap in seconds, above 0, found {self.max_gap}. Leave it out for histories without end."
            )
        for name in ("simulate", "types", "plan", "plan_edits"):
            value = getattr(self, name)
            if isinstance(value, str) and value.lstrip().startswith("{"):
                setattr(self, name, json.loads(value))
            elif isinstance(value, str) and name != "plan":
                raise ValueError(
                    f"Expected a mapping for {name}, found {value!r}. Write `--{name} '{{key: value, key: value}}'`."
                )


@dataclass
class TabBertModelArguments:
    """TabBERT's sizes. What is left out is the configuration's default, or the preset's."""

    pretrained: str | None = field(
        default=None,
        metadata={"help": "Go on from this TabBERT checkpoint, with its processor; sizes are its own."},
    )
    preset: Literal["paper"] | None = field(
        default=None,
        metadata={
            "help": "paper: 12 layers, as many heads as columns, hidden size columns × field_hidden_size."
        },
    )
    flatten: bool | None = field(
        default=None, metadata={"help": "One sequence of all cells in place of the hierarchy."}
    )
    field_hidden_size: int | None = field(default=None, metadata={"help": "Width of a cell (64)."})
    field_num_layers: int | None = field(
        default=None, metadata={"help": "Layers over the fields of a row (1)."}
    )
    field_num_heads: int | None = field(default=None, metadata={"help": "Heads of those layers (8)."})
    hidden_size: int | None = field(default=None, metadata={"help": "Width of a row (256)."})
    num_hidden_layers: int | None = field(default=None, metadata={"help": "Layers over the rows (4)."})
    num_attention_heads: int | None = field(default=None, metadata={"help": "Heads of those layers (4)."})
    intermediate_size: int | None = field(default=None, metadata={"help": "Feed-forward width (1024)."})
    dropout: float | None = field(default=None, metadata={"help": "Everywhere in the encoder (0.1)."})
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
            "help": "Fields with more ids use an adaptive softmax. For thousands of them: rarer ids are scored in a "
            "4 and 16 times narrower space."
        },
    )
    neighbor_smoothing: float | None = field(
        default=None, metadata={"help": "Share of the target that goes to the adjacent bins of a number."}
    )
    next_row: bool | None = field(
        default=None,
        metadata={
            "help": "Each row sees earlier rows only and is predicted from them whole; nothing is masked. Set "
            "mask_unknown too."
        },
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa (default), eager, …"})
