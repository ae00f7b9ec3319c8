"""Recipe keys of pictures with texts: MMBT and its baselines."""

from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub.dataclasses import strict

from .common import DataArguments, FinetuningArguments, ModelArguments

IMAGE_TEXT_ARCHITECTURES = ("mmbt", "bow", "img", "bert", "concatbow", "concatbert")


@strict
@dataclass(kw_only=True)
class ImageTextColumns:
    """How records of pictures with texts are read."""

    image_column: str | None = field(default=None, metadata={"help": "Default: found by its usual names."})
    text_column: str | None = field(default=None, metadata={"help": "Default: found by its usual names."})
    text_pair_column: str | None = field(default=None, metadata={"help": "Second sentence, if there is one."})
    label_column: str | None = field(default=None, metadata={"help": "Default: found by its usual names."})
    label_separator: str | None = field(
        default=None, metadata={"help": "Splits a text into several labels, e.g. '|' in a CSV file."}
    )
    allow_empty_text: bool = field(
        default=False, metadata={"help": "Keep records without a text; their picture alone is read."}
    )
    check_images: Literal["decode", "header", "off"] = field(
        default="decode",
        metadata={"help": "Before training: decode reads every picture to its end, header only opens it."},
    )


@strict
@dataclass(kw_only=True)
class ImageTextDataArguments(DataArguments, ImageTextColumns):
    """Pictures with texts."""

    augment: Literal["none", "flip", "crop"] = field(
        default="none",
        metadata={"help": "Random changes to training pictures; makes image features uncacheable."},
    )
    min_crop: float = field(
        default=0.6, metadata={"least": 0, "most": 1, "help": "Smallest share of the area that `crop` keeps."}
    )
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"least": 1, "help": "Round text lengths up, e.g. to 8."}
    )
    max_rows: int | None = field(
        default=None, metadata={"least": 1, "help": "At most this many rows of each split (a trial)."}
    )


@strict
@dataclass(kw_only=True)
class MMBTModelArguments(ModelArguments):
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
    num_image_embeds: int = field(default=3, metadata={"least": 1, "help": "Image tokens, 1 to 9."})
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
            "least": 0,
            "help": "Position of mmbt's first word: 0 as in the original; 1 as in the text model's training.",
        },
    )
    max_length: int | Literal["auto"] = field(
        default="auto",
        metadata={
            "least": 4,
            "help": "Word pieces of the text. 'auto': what 99 % of the training texts need, at least 16, at most as "
            "many as the text model has positions.",
        },
    )
    classifier_dropout: float = field(
        default=0.0, metadata={"least": 0, "most": 1, "help": "Before the classifier; the original has none."}
    )
    hidden_sizes: list[int] = field(
        default_factory=list, metadata={"help": "Hidden layers of the concat baselines."}
    )
    hidden_batch_norm: bool = field(
        default=True, metadata={"help": "BatchNorm in those layers (--include_bn)."}
    )
    hidden_dropout: float = field(
        default=0.1, metadata={"least": 0, "most": 1, "help": "Dropout in those layers (--dropout)."}
    )
    modal_dropout: float = field(
        default=0.0, metadata={"least": 0, "most": 1, "help": "Probability to drop a picture in training."}
    )
    modal_dropout_text: float = field(
        default=0.0, metadata={"least": 0, "most": 1, "help": "Probability to drop a text in training."}
    )
    word_dropout: float = field(
        default=0.0,
        metadata={"least": 0, "most": 1, "help": "Probability to hide each word piece in training."},
    )
    null_image: Literal["mask", "learned"] = field(
        default="mask", metadata={"help": "What an absent picture is."}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa (default), eager, …"})


@strict
@dataclass(kw_only=True)
class ImageTextRunArguments(FinetuningArguments):
    """What fine-tuning on pictures with texts does around its training."""

    ablation: bool = field(
        default=True,
        metadata={
            "help": "After training, blank and shuffle one input at a time and report how far metrics fall."
        },
    )
