"""Configuration of MMBT: one text model that reads pooled image regions and words together."""

import difflib
from collections import Counter
from dataclasses import fields
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from ..checked_config import (
    MOST_LAYERS,
    MOST_UNITS,
    refuse_absurd_depths,
    refuse_absurd_labels,
    refuse_absurd_sizes,
    refuse_misspelt,
    refuse_outside,
    refuse_unknown_names,
)
from ..checked_config_file import ConfigFileMixin
from ..travelling import TravellingMixin

# `google-bert/bert-base-uncased`, whose sizes the default `text_config` has.
BERT_CLS_TOKEN_ID = 101
BERT_SEP_TOKEN_ID = 102
# Of a part's configuration: no model has none of them.
SIZES = (
    "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings",
    "embedding_size", "hidden_sizes", "image_size", "patch_size", "num_channels",
)  # fmt: skip


@strict
class PictureAndTextConfig(ConfigFileMixin, TravellingMixin, PreTrainedConfig):  # type: ignore[misc]
    """What the configurations of MMBT and of its baselines share."""

    text_config: dict | PreTrainedConfig | None = None
    image_config: dict | PreTrainedConfig | None = None
    num_image_embeds: int = 3
    max_images: int = 1
    image_hidden_size: int | None = None
    modal_dropout: float | int = 0.0
    modal_dropout_text: float | int = 0.0
    word_dropout: float | int = 0.0
    text_pooling: Literal["cls", "mean"] = "cls"
    pos_weight: list[float] | None = None
    thresholds: list[float] | None = None
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_absurd_labels(kwargs)
        refuse_unknown_names({**vars(self), **kwargs})
        refuse_misspelt(type(self), kwargs, saved=self.transformers_version is not None)
        for part in ("text_config", "image_config"):
            if (config := getattr(self, part)) is not None:
                refuse_unknown_names(config if isinstance(config, dict) else vars(config), f"{part}.")
        if self.id2label is None and self.label2id is not None:  # transformers would call them LABEL_0, LABEL_1, ...
            self.id2label = {int(number): str(name) for name, number in self.label2id.items()}
        super().__post_init__(**kwargs)

    def validate_num_image_embeds(self) -> None:
        if not 1 <= self.num_image_embeds <= 9:
            raise ValueError(f"num_image_embeds must be between 1 and 9, got {self.num_image_embeds}")

    def validate_numbers(self) -> None:
        refuse_outside(self, {"thresholds": (0, 1), "initializer_range": (0, float("inf"))})

    def validate_max_images(self) -> None:
        if not 1 <= self.max_images <= MOST_LAYERS:
            raise ValueError(f"max_images must be between 1 and {MOST_LAYERS}, got {self.max_images}")

    def validate_dropouts(self) -> None:
        for field in fields(self):
            if "dropout" in field.name and not 0 <= (value := getattr(self, field.name)) <= 1:
                raise ValueError(f"{field.name} must be a probability between 0 and 1, got {value}")

    def validate_depths(self) -> None:
        refuse_absurd_depths(self.text_config, self.image_config)

    def validate_sizes(self) -> None:
        for part in ("text_config", "image_config"):
            refuse_absurd_sizes(getattr(self, part), SIZES, f"{part}.")
        refuse_absurd_sizes(self, ("image_hidden_size", "bow_vocab_size", "bow_embedding_size", "hidden_sizes"))

    def validate_labels(self) -> None:
        validate_label_options(self)

    @classmethod
    def from_text_image_configs(
        cls, text_config: PreTrainedConfig | None = None, image_config: PreTrainedConfig | None = None, **kwargs: Any
    ) -> Any:
        """Compose configurations; a misspelt keyword is an error here, where plain construction keeps it."""
        refuse_unknown_fields(cls, kwargs)
        text = None if text_config is None else text_config.to_dict()
        image = None if image_config is None else image_config.to_dict()
        return cls(text_config=text, image_config=image, **kwargs)


@strict
class MMBTConfig(PictureAndTextConfig):
    """What is needed to rebuild an [`MMBTModel`] or [`MMBTForClassification`] (arXiv:1909.02950).

    Args:
        text_config: any transformers text encoder that takes `inputs_embeds`; BERT base by default.
        image_config: any transformers image model; ResNet-50 by default.
        num_image_embeds: pooled image regions, each one token, 1 to 9.
        max_images: pictures of a row, at most; each gives its regions.
        image_pooling: `avg` or `max` over the feature map; `none` passes every cell or patch as a token.
        num_segments: rows of the segment table: image 0, text 1, second sentence 2. 3 for sentence pairs.
        text_position_start: position of the first word. 0 as in the original, where the word takes the place
            that pretraining gave to [CLS]; 1 is where pretraining had the first word.
        cls_token_id: id of the word that opens the image part; taken from `text_config` where it has one.
        sep_token_id: id of the word that closes the image part; likewise.
        image_hidden_size: channels of the image model's last feature map; measured by the model if None.
        null_image: what stands for an absent picture: `mask` hides its tokens from attention, `learned` puts
            one trained vector in their place.
        modal_dropout: in training, probability to treat the picture of an example as absent.
        modal_dropout_text: in training, probability to hide the words of an example that has a picture.
        word_dropout: in training, probability to hide each word piece.
        classifier_dropout: between pooler and classifier. The original has none.
        number_columns: columns of numbers beside picture and text, each one token behind the regions.
        category_columns: columns of categories, likewise → how many values each has.
        text_pooling: what the classifier reads: `cls`, the first position through the pooler, as in the original;
            `mean`, the mean of all positions, as sentence-transformers are trained, without a pooler.
        pos_weight: weight of the positives of each label in the multi-label loss, one per label.
        thresholds: probability from which a label counts as predicted, one per label; tuned on validation.
        initializer_range: standard deviation of new weights.

    Raises:
        ValueError: if a value is out of its range, or a list has not one value per label.
    """

    model_type = "mmbt"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "image_config": SubConfigSpec(config_class=AutoConfig, model_type="resnet"),
    }

    image_pooling: Literal["avg", "max", "none"] = "avg"
    num_segments: int = 2
    text_position_start: int = 0
    cls_token_id: int | None = None
    sep_token_id: int | None = None
    null_image: Literal["mask", "learned"] = "mask"
    classifier_dropout: float | int = 0.0
    number_columns: list[str] | None = None
    category_columns: dict[str, int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        text = self.text_config
        if text is None:
            named: dict[str, Any] = {"cls_token_id": BERT_CLS_TOKEN_ID, "sep_token_id": BERT_SEP_TOKEN_ID}
        else:
            named = text if isinstance(text, dict) else text.to_dict()
        if self.cls_token_id is None:
            self.cls_token_id = _first_id(named, "cls_token_id", "bos_token_id")
        if self.sep_token_id is None:
            self.sep_token_id = _first_id(named, "sep_token_id", "eos_token_id")
        super().__post_init__(**kwargs)

    def validate_num_segments(self) -> None:
        if not 2 <= self.num_segments <= MOST_LAYERS:
            raise ValueError(
                f"num_segments must be at least 2 and at most {MOST_LAYERS} (image 0, text 1; 3 for sentence pairs), "
                f"got {self.num_segments}"
            )

    def validate_text_position_start(self) -> None:
        if self.text_position_start < 0:
            raise ValueError(f"text_position_start must be at least 0, got {self.text_position_start}")

    def validate_columns(self) -> None:
        columns = [*(self.number_columns or ()), *(self.category_columns or ())]
        if twice := [name for name, count in Counter(columns).items() if count > 1]:
            raise ValueError(f"number_columns and category_columns must name a column once, got {twice[0]!r} again")
        sizes = (self.category_columns or {}).values()
        if len(self.number_columns or ()) > MOST_LAYERS or not all(1 <= size <= MOST_UNITS for size in sizes):
            raise ValueError(f"category_columns must have values, 1 to {MOST_UNITS:,}, got {self.category_columns}")

    def _travels_as(self) -> dict[str, str]:
        return {
            "AutoConfig": "MMBTConfig",
            "AutoModel": "MMBTModel",
            "AutoModelForSequenceClassification": "MMBTForClassification",
        }


def validate_label_options(config: PreTrainedConfig) -> None:
    """Refuse a problem type without a loss here, labels that cannot be told apart, and lists of other lengths."""
    if config.problem_type not in (None, "single_label_classification", "multi_label_classification"):
        raise ValueError(
            f'problem_type "{config.problem_type}" has no loss here; expected "single_label_classification" '
            'or "multi_label_classification".'
        )
    names = config.id2label or {}
    if sorted(names) != [*range(len(names))] or not names:
        raise ValueError(f"id2label needs the numbers 0 to one less than there are labels, got {[*names][:20]}")
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise ValueError(f"id2label needs a name of its own for each label, got {twice[0]!r} more than once")
    numbers = config.label2id
    # Other names are left over from before somebody wrote `config.id2label = ...`, which is what counts.
    if numbers is not None and set(numbers) == set(names.values()) and numbers != {n: i for i, n in names.items()}:
        raise ValueError(f"label2id needs the labels of id2label with the same numbers, got {numbers} beside {names}")
    for name in ("pos_weight", "thresholds"):
        values = getattr(config, name)
        if values is not None and len(values) != config.num_labels:
            raise ValueError(f"{name} needs one value per label ({config.num_labels}), got {len(values)}")
    if config.pos_weight is not None and not all(0 < weight < float("inf") for weight in config.pos_weight):
        raise ValueError(f"pos_weight must be positive and finite, got {config.pos_weight}")


def refuse_unknown_fields(config_class: type[PreTrainedConfig], kwargs: dict[str, Any]) -> None:
    """Raise for keywords that the configuration would keep without ever reading them."""
    known = {field.name for field in fields(config_class)} | {"num_labels", "attn_implementation"}
    if unknown := sorted(set(kwargs) - known):
        near = [difflib.get_close_matches(str(name), known, n=1) for name in unknown]
        hint = f" Did you mean {', '.join(one[0] for one in near if one)}?" if any(near) else ""
        raise TypeError(f"{config_class.__name__} has no field {unknown}. Known fields: {sorted(known)}.{hint}")


def _first_id(named: dict[str, Any], *names: str) -> int | None:
    return next((named[name] for name in names if isinstance(named.get(name), int)), None)
