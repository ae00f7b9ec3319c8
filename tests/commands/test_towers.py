"""The recipe `image_text_towers` on tiny random towers of the classes that it names."""

import json

import pytest
import torch
import transformers as t
from transformers import AutoModelForSequenceClassification

from hf_mmtab.commands import predict
from hf_mmtab.commands.finetune import main
from hf_mmtab.models.mmbt.modeling_mmbt import MMBTModel
from hf_mmtab.recipes import find_recipe

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_PICTURE = {"image_size": 32, "patch_size": 8}
_WORDS = {"vocab_size": 99, "max_position_embeddings": 16, **_SIZES}
TOWERS = {
    "clip": lambda: t.CLIPModel(t.CLIPConfig(text_config=_WORDS, vision_config=_SIZES | _PICTURE)),
    "siglip": lambda: t.SiglipModel(t.SiglipConfig(text_config=_WORDS, vision_config=_SIZES | _PICTURE)),
    "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**_SIZES, **_PICTURE)),
}
PROCESSORS = {
    "clip": lambda: t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    "siglip": lambda: t.SiglipImageProcessor(size={"height": 32, "width": 32}),
    "dinov2": lambda: t.BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TOWERS)
def test_its_patches_are_tokens_that_are_computed_once_for_every_architecture(
    tmp_path, tiny_text, pictures, name, monkeypatch
):
    tower = tmp_path / "tower"
    torch.manual_seed(0)
    TOWERS[name]().save_pretrained(tower)
    PROCESSORS[name]().save_pretrained(tower)
    seen, plain = [], MMBTModel.get_image_features

    def counted(self, pixel_values):
        seen.append(len(pixel_values))
        return plain(self, pixel_values)

    monkeypatch.setattr(MMBTModel, "get_image_features", counted)
    given = {"data": pictures, "text_model": tiny_text, "image_model": tower, "output_dir": tmp_path / "run"}
    arguments = [part for key, value in given.items() for part in (f"--{key}", str(value))]
    arguments += ["--num_train_epochs", "2", "--ablation", "false", "--reasons", "false", "--bootstrap", "0"]
    main([str(find_recipe("image_text_towers")), *arguments, "--compare", "concatbert", "frozen_linear"])
    # each row once, 8 of each split to tell how much is to be stored, and a blank picture to count its patches
    assert sum(seen) == 48 + 16 + 16 + 3 * 8 + 1
    run = tmp_path / "run" / "mmbt-seed1"
    model = AutoModelForSequenceClassification.from_pretrained(run)
    regions = model.get_image_features(torch.zeros(1, 3, 32, 32))
    assert regions.shape == (1, 16, 32) and model.config.image_pooling == "none"  # 4 x 4 patches
    assert json.loads((tmp_path / "run/concatbert-seed1/config.json").read_text())["image_pooling"] == "avg"
    predict.main([str(run), str(pictures / "test.jsonl"), str(tmp_path / "out.jsonl")])
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 16
