"""`ModelTesterMixin` of transformers over our models; run by `test_transformers_suites.py`, or alone with pytest."""

import unittest
from typing import Any

import torch
from suites import load
from transformers import BertConfig, ResNetConfig

from hf_mmtab.models.mmbt import MMBTBaselineConfig, MMBTBaselineForClassification, MMBTConfig, MMBTForClassification
from hf_mmtab.models.tabbert import (
    TabBertConfig,
    TabBertForMaskedLM,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertModel,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)

common: Any = load("test_modeling_common")
BATCH, ROWS = 3, 5
TEXT = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37,
    "max_position_embeddings": 64,
}  # fmt: skip
IMAGE = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 24], "depths": [1, 1, 1, 1], "layer_type": "basic"}

# Tests that do not apply, and why.
REFUSED = "loading with missing or other weights is refused by design: nothing is initialised anew without a word"
NEVER = {
    "test_can_load_ignoring_mismatched_shapes": REFUSED,
    "test_correct_missing_keys": REFUSED,
    "test_model_weights_reload_no_missing_tied_weights": REFUSED,
}
NO_LOSS = dict.fromkeys(
    [
        "test_training",
        "test_training_gradient_checkpointing",
        "test_training_gradient_checkpointing_use_reentrant_false",
        "test_training_gradient_checkpointing_use_reentrant_true",
    ],
    "an encoder alone has no loss",
)
NO_LAYERS = dict.fromkeys(
    ["test_hidden_states_output", "test_retain_grad_hidden_states_attentions"],
    "an LSTM has no layers whose states come out",
)
FEATURES = dict.fromkeys(
    [
        f"test_get_{modality}_features_{what}"
        for modality in ("image", "text")
        for what in ("attentions", "hidden_states", "output")
    ],
    "features are one tensor, or a tuple of them",
)
NO_WORD_TABLE = dict.fromkeys(
    [
        "test_enable_input_require_grads",
        "test_model_get_set_embeddings",
        "test_tied_weights_are_sharded_together",
        "test_inputs_embeds",
    ],
    "there is no trained table of words: a bag sums frozen vectors, a picture has none",
)
NO_CHECKPOINTING = dict.fromkeys(
    [
        "test_enable_input_require_grads_with_gradient_checkpointing",
        "test_gradient_checkpointing_backward_compatibility",
        "test_gradient_checkpointing_enable_disable",
        "test_peft_gradient_checkpointing_enable_disable",
        "test_training_gradient_checkpointing",
        "test_training_gradient_checkpointing_use_reentrant_false",
        "test_training_gradient_checkpointing_use_reentrant_true",
    ],
    "neither a bag of words nor transformers' ResNet recomputes its layers",
)
NO_STATES = dict.fromkeys(NO_LAYERS, "a bag of words and a ResNet have no layers over a sequence")
BASELINES = {"test_eager_matches_sdpa_inference": "it leaves out pictures, which the baseline needs"}


def without(*reasons: dict[str, str]) -> Any:
    """Skip the tests that do not apply, each with its reason."""

    def decorate(case: type) -> type:
        for name, reason in {k: v for one in reasons for k, v in one.items()}.items():
            for full in [one for one in dir(case) if one == name or one.removeprefix(f"{name}_")[:1].isdigit()]:
                setattr(case, full, unittest.skip(reason)(getattr(case, full)))
        return case

    return decorate


class SmallModel:
    """What `ModelTesterMixin` asks of a model's own tester."""

    is_training = True
    batch_size = BATCH

    def __init__(self, config: Any, inputs: Any, seq_length: int = ROWS) -> None:
        self._config, self._inputs, self.seq_length = config, inputs, seq_length
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = 32, 2, 4

    def get_config(self) -> Any:
        return self._config()

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        return self._config(), self._inputs()


def table_config() -> TabBertConfig:
    return TabBertConfig(
        fields=["city", "amount", "shop"], field_ranges=[[4, 9], [9, 19], [19, 39]], vocab_size=39, num_labels=2,
        field_hidden_size=8, field_num_heads=2, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=37, max_position_embeddings=64,
    )  # fmt: skip


def rows() -> dict[str, torch.Tensor]:
    columns = [torch.randint(low, high, (BATCH, ROWS)) for low, high in ((4, 9), (11, 19), (19, 39))]
    return {"input_ids": torch.stack(columns, -1), "attention_mask": torch.ones(BATCH, ROWS, dtype=torch.long)}


def picture_config() -> MMBTConfig:
    return MMBTConfig(
        text_config=BertConfig(**TEXT), image_config=ResNetConfig(**IMAGE), num_labels=3, cls_token_id=1, sep_token_id=2
    )


def baseline_config() -> MMBTBaselineConfig:
    return MMBTBaselineConfig(text_config=BertConfig(**TEXT), image_config=ResNetConfig(**IMAGE), num_labels=3)


def bag_config(pictured: bool) -> Any:
    """A sum of word vectors, alone or beside a picture."""

    def config() -> MMBTBaselineConfig:
        image = ResNetConfig(**IMAGE) if pictured else None
        return MMBTBaselineConfig(bow_vocab_size=99, bow_embedding_size=32, image_config=image, num_labels=3)

    return config


def text_config() -> MMBTBaselineConfig:
    return MMBTBaselineConfig(text_config=BertConfig(**TEXT), num_labels=3)


def image_config() -> MMBTBaselineConfig:
    return MMBTBaselineConfig(image_config=ResNetConfig(**IMAGE), num_labels=3)


def chosen(*names: str) -> Any:
    """Return inputs of these names alone."""
    return lambda: {name: value for name, value in pictures().items() if name in names}


def pictures() -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.randint(5, 99, (BATCH, ROWS)),
        "attention_mask": torch.ones(BATCH, ROWS, dtype=torch.long),
        "pixel_values": torch.randn(BATCH, 3, 32, 32),
    }


class ModelCase(common.ModelTesterMixin):
    """What our models have in common."""

    test_resize_embeddings = False  # ids are those of a processor, not of a tokenizer that grows
    test_resize_position_embeddings = False
    test_missing_keys = True
    model_split_percents = (0.5, 0.7, 0.9)


class Table(ModelCase):
    def setUp(self) -> None:
        self.model_tester = SmallModel(table_config, rows)

    def _prepare_for_class(self, inputs: Any, model_class: Any, return_labels: bool = False) -> Any:
        inputs = dict(inputs)
        if return_labels and model_class is TabBertForMaskedLM:
            inputs["labels"] = inputs["input_ids"]
        elif return_labels and model_class is not TabBertModel:
            inputs["labels"] = torch.zeros(BATCH, dtype=torch.long)
        return inputs


@without(NEVER, NO_LOSS)
class TabBertModelTest(Table, unittest.TestCase):
    all_model_classes = (TabBertModel,)


@without(
    NEVER, {"test_retain_grad_hidden_states_attentions": "it takes the first output for a tensor, not logits by field"}
)
class TabBertForMaskedLMTest(Table, unittest.TestCase):
    all_model_classes = (TabBertForMaskedLM,)


@without(NEVER)
class TabBertWindowHeadTest(Table, unittest.TestCase):
    all_model_classes = (
        TabBertLstmForSequenceClassification,
        TabBertMlpForSequenceClassification,
        TabBertPooledForSequenceClassification,
    )


@without(NEVER, NO_LAYERS)
class TabBertRawLstmTest(Table, unittest.TestCase):
    all_model_classes = (TabBertRawLstmForSequenceClassification,)
    has_attentions = False


class PictureAndText(ModelCase):
    def _prepare_for_class(self, inputs: Any, model_class: Any, return_labels: bool = False) -> Any:
        return {**inputs, "labels": torch.zeros(BATCH, dtype=torch.long)} if return_labels else dict(inputs)


@without(NEVER, FEATURES)
class MMBTTest(PictureAndText, unittest.TestCase):
    all_model_classes = (MMBTForClassification,)

    def setUp(self) -> None:
        image_tokens = picture_config().num_image_embeds + 2  # between [CLS] and [SEP]
        self.model_tester = SmallModel(picture_config, pictures, image_tokens + ROWS)


@without(NEVER, FEATURES, BASELINES)
class ConcatBertTest(PictureAndText, unittest.TestCase):
    all_model_classes = (MMBTBaselineForClassification,)

    def setUp(self) -> None:
        self.model_tester = SmallModel(baseline_config, pictures)


class Baseline(PictureAndText):
    all_model_classes = (MMBTBaselineForClassification,)


@without(NEVER, FEATURES)
class BertBaselineTest(Baseline, unittest.TestCase):
    def setUp(self) -> None:
        self.model_tester = SmallModel(text_config, chosen("input_ids", "attention_mask"))


@without(NEVER, FEATURES, NO_WORD_TABLE, NO_CHECKPOINTING, NO_STATES)
class ImgTest(Baseline, unittest.TestCase):
    has_attentions = False

    def setUp(self) -> None:
        self.model_tester = SmallModel(image_config, chosen("pixel_values"))


@without(NEVER, FEATURES, NO_WORD_TABLE, NO_CHECKPOINTING, NO_STATES)
class BowAloneTest(Baseline, unittest.TestCase):
    has_attentions = False

    def setUp(self) -> None:
        self.model_tester = SmallModel(bag_config(False), chosen("input_ids", "attention_mask"))


@without(NEVER, FEATURES, NO_WORD_TABLE, NO_CHECKPOINTING, NO_STATES)
class ConcatBowTest(Baseline, unittest.TestCase):
    has_attentions = False

    def setUp(self) -> None:
        self.model_tester = SmallModel(bag_config(True), pictures)
