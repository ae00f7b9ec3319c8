"""torchvision's ResNet weights as transformers' ResNetModel."""

import pytest
import torch
from tiny_backbones import TEXT_CONFIGS
from torch.testing import assert_close
from torchvision import models
from transformers import AutoModel

from hf_mmtab.models.mmbt import torchvision_weights
from hf_mmtab.models.mmbt.modeling_mmbt import MMBTForClassification
from hf_mmtab.models.mmbt.torchvision_weights import (
    load_torchvision_resnet,
    resnet_from_torchvision,
    resnet_key,
    torchvision_key,
    torchvision_to_resnet,
)


def narrow_resnet(block: type, layers: list[int]) -> models.ResNet:
    """A ResNet of torchvision with random weights, statistics and biases, so that every tensor shows."""
    torch.manual_seed(0)
    net = models.ResNet(block, layers).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return net


def last_map(net: models.ResNet, pixels: torch.Tensor) -> torch.Tensor:
    return torch.nn.Sequential(*list(net.children())[:-2])(pixels)


@pytest.mark.parametrize(
    ("block", "layers"), [(models.resnet.BasicBlock, [1, 2, 1, 1]), (models.resnet.Bottleneck, [1, 2, 1, 1])]
)
def test_feature_maps_equal_torchvision(block, layers):
    net, pixels = narrow_resnet(block, layers), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours = resnet_from_torchvision(net.state_dict())(pixels).last_hidden_state
        assert_close(ours, last_map(net, pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet152"])
def test_feature_maps_of_the_full_architectures_equal_torchvision(name):
    torch.manual_seed(0)
    net, pixels = models.get_model(name).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours = resnet_from_torchvision(net.state_dict())(pixels).last_hidden_state
        assert_close(ours, last_map(net, pixels), rtol=1e-4, atol=1e-5)


def test_names_go_both_ways():
    state_dict = models.resnet18().state_dict()
    for key, ours in zip(
        [key for key in state_dict if not key.startswith("fc.")], torchvision_to_resnet(state_dict), strict=True
    ):
        assert resnet_key(key) == ours
        assert torchvision_key(ours) == key


def test_a_file_of_weights_loads(tmp_path):
    net = narrow_resnet(models.resnet.BasicBlock, [1, 1, 1, 1])
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    for name in (f"torchvision:{tmp_path}/weights.pth", f"{tmp_path}/weights.pth"):
        model = load_torchvision_resnet(name)
        assert torch.equal(model.embedder.embedder.convolution.weight, net.conv1.weight)


def test_mmbt_starts_from_torchvision_weights(tmp_path):
    net = narrow_resnet(models.resnet.BasicBlock, [1, 1, 1, 1])
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    AutoModel.from_config(TEXT_CONFIGS["bert"]()).save_pretrained(tmp_path / "text")
    model = MMBTForClassification.from_text_image_pretrained(
        str(tmp_path / "text"), f"torchvision:{tmp_path}/weights.pth", cls_token_id=1, sep_token_id=2
    )
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours = model.model.image_model(pixels).last_hidden_state
        assert_close(ours, last_map(net, pixels), rtol=1e-5, atol=1e-5)


def test_a_named_architecture_takes_the_weights_of_2019(monkeypatch):
    asked = []

    def fake(self, **kwargs):
        asked.append(self)
        return models.resnet18().state_dict()

    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", fake)
    assert load_torchvision_resnet("torchvision:resnet18").config.depths == [2, 2, 2, 2]
    load_torchvision_resnet("torchvision:resnet18:IMAGENET1K_V1")
    assert asked == [models.ResNet18_Weights.IMAGENET1K_V1] * 2
    assert torchvision_weights.DEFAULT_WEIGHTS == "IMAGENET1K_V1"


@pytest.mark.parametrize("name", ["vgg16", "resnext50_32x4d", "resnet152x"])
def test_other_architectures_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}' is not supported. Supported: resnet18, resnet34, resnet50"):
        load_torchvision_resnet(f"torchvision:{name}")


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match=r"resnet18 has no weights 'V9' in torchvision; it has \['DEFAULT'"):
        load_torchvision_resnet("torchvision:resnet18:V9")


@pytest.mark.parametrize("name", ["wide_resnet50_2", "resnext50_32x4d"])
def test_weights_of_a_wide_or_grouped_resnet_are_refused(name):
    with torch.device("meta"):
        state_dict = models.get_model(name).state_dict()
    with pytest.raises(ValueError, match="found the weights of a grouped or wide one"):
        resnet_from_torchvision(state_dict)


def test_files_that_are_not_there_or_not_a_resnet_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="No torchvision weights at"):
        load_torchvision_resnet(f"torchvision:{tmp_path}/none.pth")
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"Expected the state dict of a torchvision ResNet in .*conv1.weight"):
        load_torchvision_resnet(f"{tmp_path}/a.pth")


def test_foreign_names_are_refused():
    with pytest.raises(ValueError, match=r"Expected a tensor of a torchvision ResNet .*found 'layer5.0.conv1.weight'"):
        resnet_key("layer5.0.conv1.weight")
    with pytest.raises(ValueError, match=r"Expected a tensor of transformers' ResNetModel, found 'pooler.weight'"):
        torchvision_key("pooler.weight")
