"""Recipe keys of pictures with texts: MMBT and its baselines."""

from dataclasses import dataclass
from typing import Literal, get_args

from huggingface_hub.dataclasses import strict

from ..typed_values import key
from .common import DataArguments, FinetuningArguments, ModelArguments

ENSEMBLE = "ensemble"
Architecture = Literal["mmbt", "bow", "img", "bert", "concatbow", "concatbert", "ensemble"]
IMAGE_TEXT_ARCHITECTURES: tuple[str, ...] = get_args(Architecture)


@strict
@dataclass(kw_only=True)
class ImageTextColumns:
    """How records of pictures with texts are read."""

    separator: str | None = key(None, "Of the columns of CSV files; default by their ending.")
    missing: list[str] = key([], "Texts that stand for a missing value, such as NA, beside the empty cell.")
    image_column: str | None = key(None, "Default: found by its usual names. none: there are no pictures.")
    text_column: str | None = key(None, "Default: found by its usual names. none: there are no texts.")
    text_pair_column: str | None = key(None, "Second sentence, if there is one.")
    label_column: str | None = key(None, "Default: found by its usual names.")
    label_separator: str | None = key(None, "Splits a text into several labels, e.g. '|' in a CSV file.")
    allow_empty_text: bool = key(False, "Keep records without a text; their picture alone is read.")
    check_images: Literal["decode", "header", "off"] = key(
        "decode", "Before training: decode reads every picture to its end, header only opens it."
    )


@strict
@dataclass(kw_only=True)
class ImageTextDataArguments(DataArguments, ImageTextColumns):
    """Pictures with texts."""

    augment: Literal["none", "flip", "crop"] = key(
        "none", "Random changes to training pictures; makes image features uncacheable."
    )
    min_crop: float = key(0.6, "Smallest share of the area that `crop` keeps.", above=0, most=1)
    pad_to_multiple_of: int | None = key(None, "Round text lengths up, e.g. to 8.", least=1)


@strict
@dataclass(kw_only=True)
class MMBTModelArguments(ModelArguments):
    """MMBT or one of its baselines."""

    architecture: Architecture = key(
        "mmbt", "ensemble: `ensemble_members` and a linear probe, averaged as validation likes it best."
    )
    text_model: str | None = key("google-bert/bert-base-uncased", "Hub name, folder or package:NAME.")
    image_model: str | None = key(
        "torchvision:resnet152", "Hub name, folder, package:NAME or torchvision:NAME of the image model."
    )
    glove_path: str | None = key(None, "GloVe text file of bow and concatbow.", of=("bow", "concatbow", ENSEMBLE))
    image_preset: Literal["backbone", "legacy"] = key(
        "backbone", "Picture statistics: the image model's own, or the original MMBT's."
    )
    num_image_embeds: int = key(3, "Image tokens, 1 to 9.", least=1, most=9)
    max_images: int | Literal["auto"] = key(
        "auto",
        "Pictures of a row that are read, where records have lists of them. 'auto': the most that a training row has, "
        "8 at most.",
        least=1,
        most=1000,
    )
    image_pooling: Literal["avg", "max", "none"] = key(
        "avg", "Feature map → tokens; none: each cell or patch is one of mmbt, while its baselines average."
    )
    segment_start: Literal["pretrained", "first"] = key(
        "pretrained",
        "Segment embeddings of mmbt start from the text model's, as in the original, or all from its "
        "first, that of a single text.",
        of=("mmbt", ENSEMBLE),
    )
    text_position_start: int = key(
        0,
        "Position of mmbt's first word: 0 as in the original; 1 as in the text model's training.",
        least=0,
        of=("mmbt", ENSEMBLE),
    )
    max_length: int | Literal["auto"] = key(
        "auto",
        "Word pieces of the text. 'auto': what 99 % of the training texts need, at least 16, at most as "
        "many as the text model has positions.",
        least=4,
    )
    text_pooling: Literal["auto", "cls", "mean"] = key(
        "cls",
        "What the classifier reads of the text model: its pooled first position, as in the original, or the mean of "
        "its states; auto: whichever a logistic regression on the frozen model likes better on validation.",
    )
    classifier_start: Literal["random", "linear_probe"] = key(
        "random",
        "linear_probe: the classifier starts from a logistic regression on the frozen model, and mmbt's image "
        "projection from one of word vectors on pictures where that helps it on validation (LP-FT).",
    )
    classifier_dropout: float = key(0.0, "Before the classifier; the original has none.", least=0, most=1)
    hidden_sizes: list[int] = key(
        [], "Hidden layers of the concat baselines.", least=1, most=10_000_000, of=("concatbert", "concatbow", ENSEMBLE)
    )
    hidden_batch_norm: bool = key(
        True, "BatchNorm in those layers (--include_bn).", of=("concatbert", "concatbow", ENSEMBLE)
    )
    hidden_dropout: float = key(
        0.1, "Dropout in those layers (--dropout).", least=0, most=1, of=("concatbert", "concatbow", ENSEMBLE)
    )
    modal_dropout: float = key(0.0, "Probability to drop a picture in training.", least=0, most=1)
    modal_dropout_text: float = key(0.0, "Probability to drop a text in training.", least=0, most=1)
    word_dropout: float = key(0.0, "Probability to hide each word piece in training.", least=0, most=1)
    null_image: Literal["mask", "learned"] = key("mask", "What an absent picture is.")
    number_columns: list[str] = key(
        [],
        "Columns of numbers that mmbt reads beside picture and text, each one token; an empty cell is missing.",
        of=("mmbt", ENSEMBLE),
    )
    category_columns: list[str] = key(
        [],
        "Columns of categories (texts, whole numbers, truth values) that mmbt reads likewise.",
        of=("mmbt", ENSEMBLE),
    )


@strict
@dataclass(kw_only=True)
class ImageTextRunArguments(FinetuningArguments):
    """What fine-tuning on pictures with texts does around its training."""

    recipe_rows: int | None = key(
        None,
        "Training rows for which num_train_epochs is meant. With less than half or more than twice as many, epochs "
        "change so that steps grow with the square root of the rows, and parts thaw after the same share of training. "
        "Epochs on the command line stay. null: epochs are as written.",
        least=1,
    )
    ensemble_members: list[str] = key(
        ["mmbt", "concatbert", "bert"],
        "Architectures that architecture: ensemble trains, with the same recipe, and chooses from.",
    )
    ablation: bool = key(True, "After training, report how far metrics fall without one input at a time.")
