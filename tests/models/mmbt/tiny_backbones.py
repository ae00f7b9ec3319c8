"""Tiny random configurations of the text and image models that MMBT is tested with."""

import torch
import transformers as t

from hf_mmtab.models.mmbt import MMBTBaselineConfig, MMBTBaselineForClassification
from hf_mmtab.models.mmbt.configuration_mmbt import MMBTConfig
from hf_mmtab.models.mmbt.modeling_mmbt import MMBTForClassification

VOCABULARY = 99
WITH_IMAGE = ["img", "concatbow", "concatbert"]  # of the baselines
_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
_MODERN = {"local_attention": 4, "global_attn_every_n_layers": 2}
_MODERN |= {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
_RELATIVE = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}
TEXT_CONFIGS = {
    "bert": lambda: t.BertConfig(**_TEXT),
    "roberta": lambda: t.RobertaConfig(**{**_TEXT, "pad_token_id": 1, "type_vocab_size": 1}),
    "distilbert": lambda: t.DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=128
    ),
    "electra": lambda: t.ElectraConfig(**_TEXT, embedding_size=16),
    "modernbert": lambda: t.ModernBertConfig(**_TEXT, **_MODERN),
    "deberta-v2": lambda: t.DebertaV2Config(**_TEXT, **_RELATIVE, type_vocab_size=0),
    "mpnet": lambda: t.MPNetConfig(**{**_TEXT, "pad_token_id": 1}),
    "albert": lambda: t.AlbertConfig(**_TEXT, embedding_size=16),
}
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
_STAGES = {"hidden_sizes": [8, 8, 16, 24], "depths": [1, 1, 1, 1]}
IMAGE_CONFIGS = {
    "resnet": lambda: t.ResNetConfig(embedding_size=8, layer_type="basic", **_STAGES),
    "convnext": lambda: t.ConvNextConfig(**_STAGES),
    "mobilenet_v2": lambda: t.MobileNetV2Config(depth_multiplier=0.25, image_size=64),
    "vit": lambda: t.ViTConfig(**_VIT),
    "dinov2": lambda: t.Dinov2Config(**_VIT),
    "dinov2_with_registers": lambda: t.Dinov2WithRegistersConfig(**_VIT, num_register_tokens=4),
    "clip_vision_model": lambda: t.CLIPVisionConfig(**_VIT),
    "siglip_vision_model": lambda: t.SiglipVisionConfig(**_VIT),
    "swin": lambda: t.SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1], num_heads=[2, 2, 2], window_size=2
    ),
    "deit": lambda: t.DeiTConfig(**_VIT),
    "efficientnet": lambda: t.EfficientNetConfig(
        image_size=64, width_coefficient=0.25, depth_coefficient=0.1, hidden_dim=320
    ),
    "mobilevit": lambda: t.MobileViTConfig(
        image_size=64, hidden_sizes=[16, 16, 24], neck_hidden_sizes=[8, 8, 8, 16, 16, 24, 40]
    ),
}
# What a square picture of this size gives: 4 × 4 patches of 8, or a smaller map.
PICTURE = 32


def tiny_config(text: str = "bert", image: str = "resnet", **kwargs) -> MMBTConfig:
    kwargs = {"num_labels": 3, "cls_token_id": 1, "sep_token_id": 2, **kwargs}
    return MMBTConfig(text_config=TEXT_CONFIGS[text](), image_config=IMAGE_CONFIGS[image](), **kwargs)


def tiny_mmbt(text: str = "bert", image: str = "resnet", **kwargs) -> MMBTForClassification:
    torch.manual_seed(0)
    return MMBTForClassification(tiny_config(text, image, **kwargs)).eval()


def tiny_batch(batch: int = 2, seq: int = 7, height: int = PICTURE, width: int = PICTURE) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(5, VOCABULARY, (batch, seq), generator=generator),
        "attention_mask": torch.ones(batch, seq, dtype=torch.long),
        "token_type_ids": torch.ones(batch, seq, dtype=torch.long),
        "pixel_values": torch.randn(batch, 3, height, width, generator=generator),
    }


def tiny_baseline(kind: str, text: str = "bert", image: str = "resnet", **kwargs):
    torch.manual_seed(0)
    if "bow" in kind:
        kwargs |= {"bow_vocab_size": 99, "bow_embedding_size": 6}
    if "bert" in kind:
        kwargs["text_config"] = TEXT_CONFIGS[text]()
    if kind in WITH_IMAGE:
        kwargs["image_config"] = IMAGE_CONFIGS[image]()
    model = MMBTBaselineForClassification(MMBTBaselineConfig(**{"num_labels": 3, **kwargs})).eval()
    if model.word_vectors is not None:
        model.word_vectors.normal_()
    return model


def plain_batch(**kwargs):
    """As the processor gives it for the baselines: segments from 0."""
    batch = tiny_batch(**kwargs)
    return {**batch, "token_type_ids": torch.zeros_like(batch["token_type_ids"])}
