"""Configuration of the five baselines of MMBT: bow, img, bert, concatbow, concatbert."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import SubConfigSpec

from .configuration_mmbt import PictureAndTextConfig


@strict
class MMBTBaselineConfig(PictureAndTextConfig):
    """An optional text part and an optional image part, concatenated, with a classifier on top.

    | baseline     | set                                |
    |--------------|------------------------------------|
    | `bow`        | `bow_vocab_size`                   |
    | `img`        | `image_config`                     |
    | `bert`       | `text_config`                      |
    | `concatbow`  | `bow_vocab_size`, `image_config`   |
    | `concatbert` | `text_config`, `image_config`      |

    Args:
        text_config: any transformers text encoder; pooled, it is the text feature.
        image_config: any transformers image model; its pooled regions, flattened, are the image feature.
        bow_vocab_size: words in the table of frozen vectors, whose sum is the text feature.
        bow_embedding_size: length of a word's vector.
        num_image_embeds: pooled image regions, 1 to 9.
        max_images: pictures of a row, at most; their regions are averaged.
        image_pooling: `avg` or `max` over the feature map.
        image_hidden_size: channels of the image model's last feature map; measured by the model if None.
        hidden_sizes: sizes of hidden layers [linear, batch norm, ReLU, dropout] before the classifier.
        batch_norm: whether the hidden layers have it.
        hidden_dropout: after each hidden layer.
        modal_dropout: in training, probability to treat the picture of an example as absent (feature zero).
        modal_dropout_text: in training, the same for the words of an example that has a picture.
        word_dropout: in training, probability to hide each word piece.
        text_pooling: of a text encoder, as in [`MMBTConfig`].
        pos_weight: weight of the positives of each label in the multi-label loss, one per label.
        thresholds: probability from which a label counts as predicted, one per label.
        initializer_range: standard deviation of new weights.

    Raises:
        ValueError: if a value is out of its range, or both kinds of text part are set.
    """

    model_type = "mmbt_baseline"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert", optional=True),
        "image_config": SubConfigSpec(config_class=AutoConfig, model_type="resnet", optional=True),
    }

    bow_vocab_size: int | None = None
    bow_embedding_size: int = 300
    image_pooling: Literal["avg", "max"] = "avg"
    hidden_sizes: list[int] | None = None
    batch_norm: bool = True
    hidden_dropout: float | int = 0.1

    @property
    def baseline(self) -> str:
        """Its name in the paper's code: `bow`, `img`, `bert`, `concatbow` or `concatbert`."""
        text = "bert" if self.text_config is not None else "bow" if self.bow_vocab_size is not None else ""
        if self.image_config is None:
            return text
        return f"concat{text}" if text else "img"

    def validate_parts(self) -> None:
        if self.text_config is not None and self.bow_vocab_size is not None:
            raise ValueError("Expected text_config or bow_vocab_size, found both: a baseline has one text part.")

    def _travels_as(self) -> dict[str, str]:
        return {
            "AutoConfig": "MMBTBaselineConfig",
            "AutoModelForSequenceClassification": "MMBTBaselineForClassification",
        }
