"""Recipe keys that are not transformers' training arguments: which data, which model, what to do after training."""

from dataclasses import dataclass, field
from typing import Literal

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
    overwrite: bool = field(
        default=False,
        metadata={
            "help": "Start anew in an output_dir that holds another run. Otherwise a run of the same recipe "
            "resumes, and any other is an error."
        },
    )
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
    glove_path: str | None = field(default=None, metadata={"help": "GloVe text file of bow and concatbow."})
    image_preset: Literal["backbone", "legacy"] = field(
        default="backbone",
        metadata={"help": "Picture statistics: the image model's own, or the original MMBT's."},
    )
    num_image_embeds: int = field(default=3, metadata={"help": "Image tokens, 1 to 9."})
    image_pooling: Literal["avg", "max", "none"] = field(
        default="avg", metadata={"help": "Feature map → tokens."}
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
    null_image: Literal["mask", "learned"] = field(
        default="mask", metadata={"help": "What an absent picture is."}
    )
    channels_last: bool = field(
        default=True, metadata={"help": "Store convolution kernels channels last: faster, same numbers."}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa (default), eager, …"})
