"""The original's weights and inputs, read for the tests."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_mmtab.converting.mmbt_weights import config_from_original, from_original, to_original
from hf_mmtab.models.mmbt.configuration_baselines import MMBTBaselineConfig
from hf_mmtab.models.mmbt.configuration_mmbt import MMBTConfig
from hf_mmtab.models.mmbt.modeling_baselines import MMBTBaselineForClassification
from hf_mmtab.models.mmbt.modeling_mmbt import MMBTForClassification

MEAN = (0.46777044, 0.44531429, 0.40661017)
STD = (0.12221994, 0.12145835, 0.14380469)


class Golden:
    """`golden/mmbt`: expected numbers, inputs, and models with the original's weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected = json.loads((folder / "expected.json").read_text())
        self.settings = self.expected["settings"]
        self.inputs = load_file(folder / "inputs.safetensors")
        self.outputs = load_file(folder / "outputs.safetensors")

    @property
    def pos_weight(self) -> list[float]:
        return [self.settings["train_data_len"] / n for n in self.settings["label_freqs"].values()]

    def pixels(self, name: str = "image_uint8") -> torch.Tensor:
        mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        return (self.inputs[name].float() / 255 - mean) / std

    def init(self, kind: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / f"{kind}_init.safetensors")

    def config_kwargs(self, kind: str, state_dict: dict[str, torch.Tensor], **kwargs) -> dict:
        if kind == "mmbt":
            kwargs = {"cls_token_id": 2, "sep_token_id": 3, **kwargs}
        return config_from_original(kind, state_dict, num_attention_heads=self.settings["heads"], dropout=0.0, **kwargs)

    def mmbt(self, state_dict: dict[str, torch.Tensor] | None = None, **kwargs) -> MMBTForClassification:
        state_dict = self.init("mmbt") if state_dict is None else state_dict
        config = MMBTConfig(**self.config_kwargs("mmbt", state_dict, **kwargs))
        model = MMBTForClassification(config)
        model.load_state_dict(from_original("mmbt", state_dict)[0])
        return model.eval()

    def mmbt_batch(self, segments: str = "segment_mmbt") -> dict[str, torch.Tensor]:
        return {
            "input_ids": self.inputs["input_txt"],
            "attention_mask": self.inputs["attention_mask"],
            "token_type_ids": self.inputs[segments],
            "pixel_values": self.pixels(),
        }

    def baseline(self, kind: str, **kwargs) -> MMBTBaselineForClassification:
        state_dict = self.init(kind)
        model = MMBTBaselineForClassification(MMBTBaselineConfig(**self.config_kwargs(kind, state_dict, **kwargs)))
        model.load_state_dict(from_original(kind, state_dict)[0])
        return model.eval()

    def baseline_batch(self, kind: str) -> dict[str, torch.Tensor]:
        batch = {"attention_mask": self.inputs["attention_mask"]}
        batch["input_ids"] = self.inputs["bow_txt" if "bow" in kind else "input_txt"]
        if "bert" in kind:
            batch["token_type_ids"] = self.inputs["segment_bert"]
        if kind in ("img", "concatbow", "concatbert"):
            batch["pixel_values"] = self.pixels()
        return batch


def check_gradients(kind, model, expected):
    """Gradient norms of every parameter, under the original's names; None there means no gradient."""
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    names = {to_original_name(kind, name): name for name in ours}
    for key, norm in expected.items():
        if norm is None:
            assert key not in names or ours[names[key]] is None, key
        else:
            assert ours[names[key]].norm().item() == pytest.approx(norm, rel=1e-5, abs=1e-6), key


def to_original_name(kind, name):
    return next(iter(to_original(kind, {name: torch.zeros(1)})))
