"""ResNet weights of torchvision, as a `transformers.ResNetModel` with the same numbers."""

import re
from pathlib import Path

import torch
from transformers import ResNetConfig, ResNetModel

PREFIX = "torchvision:"
SUPPORTED = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# What `torchvision.models.resnet152(pretrained=True)` gave when the original was written.
DEFAULT_WEIGHTS = "IMAGENET1K_V1"


def is_torchvision(name: str) -> bool:
    """Whether a name asks for torchvision weights: `torchvision:…`, or a `.pth` file."""
    return str(name).startswith(PREFIX) or str(name).endswith(".pth")


def load_torchvision_resnet(name: str) -> ResNetModel:
    """Load `torchvision:ARCHITECTURE[:WEIGHTS]` or `[torchvision:]FILE.pth`, a saved state dict.

    Raises:
        ValueError: if the architecture, its weights or the file's tensors are not those of a plain ResNet.
        FileNotFoundError: if the file is not there.
    """
    source = str(name).removeprefix(PREFIX)
    if source.endswith((".pth", ".pt")):
        if not Path(source).is_file():
            raise FileNotFoundError(f"No torchvision weights at {source}.")
        state_dict = torch.load(source, map_location="cpu", weights_only=True)
        if not isinstance(state_dict, dict) or "conv1.weight" not in state_dict:
            raise ValueError(
                f"Expected the state dict of a torchvision ResNet in {source}, found no 'conv1.weight'. "
                "Save it with torch.save(model.state_dict(), FILE)."
            )
    else:
        state_dict = _download(source)
    return resnet_from_torchvision(state_dict)


def resnet_from_torchvision(state_dict: dict[str, torch.Tensor]) -> ResNetModel:
    """Build the transformers model of a torchvision ResNet's weights; its classifier `fc` is left out."""
    model = ResNetModel(resnet_config(state_dict))
    model.load_state_dict(torchvision_to_resnet(state_dict))
    return model.eval()


def resnet_config(state_dict: dict[str, torch.Tensor]) -> ResNetConfig:
    """Read depths, widths and block type off the shapes of torchvision's weights.

    Raises:
        ValueError: for grouped or wide ResNets, which `ResNetModel` cannot be.
    """
    blocks = {tuple(key.split(".")[:2]) for key in state_dict if key.startswith("layer")}
    depths = [sum(stage == f"layer{number}" for stage, _ in blocks) for number in range(1, 5)]
    bottleneck = "layer1.0.conv3.weight" in state_dict
    last = "conv3" if bottleneck else "conv2"
    hidden_sizes = [state_dict[f"layer{stage}.0.{last}.weight"].shape[0] for stage in range(1, 5)]
    middle = state_dict["layer1.0.conv2.weight"]  # (out, in / groups, 3, 3)
    if bottleneck and tuple(middle.shape[:2]) != (hidden_sizes[0] // 4, hidden_sizes[0] // 4):
        raise ValueError(
            f"Expected a plain ResNet ({', '.join(SUPPORTED)}), found the weights of a grouped or wide one "
            f"(layer1.0.conv2 has shape {tuple(middle.shape)})."
        )
    return ResNetConfig(
        embedding_size=state_dict["conv1.weight"].shape[0],
        hidden_sizes=hidden_sizes,
        depths=depths,
        layer_type="bottleneck" if bottleneck else "basic",
    )


def torchvision_to_resnet(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename torchvision's keys to those of `ResNetModel`, without the classifier.

    Raises:
        ValueError: if a key is not a ResNet's.
    """
    return {resnet_key(key): value for key, value in state_dict.items() if not key.startswith("fc.")}


def resnet_key(key: str) -> str:
    """The name in `ResNetModel` of a tensor of torchvision's ResNet, e.g. `layer2.0.bn1.bias`."""
    if found := re.fullmatch(r"(conv|bn)1\.(\w+)", key):
        return f"embedder.embedder.{_kind(found[1])}.{found[2]}"
    if found := re.fullmatch(r"layer([1-4])\.(\d+)\.(conv|bn)([123])\.(\w+)", key):
        stage, block, kind, number, name = found.groups()
        return f"encoder.stages.{int(stage) - 1}.layers.{block}.layer.{int(number) - 1}.{_kind(kind)}.{name}"
    if found := re.fullmatch(r"layer([1-4])\.(\d+)\.downsample\.([01])\.(\w+)", key):
        stage, block, kind, name = found.groups()
        part = _kind("bn" if kind == "1" else "conv")
        return f"encoder.stages.{int(stage) - 1}.layers.{block}.shortcut.{part}.{name}"
    raise ValueError(f"Expected a tensor of a torchvision ResNet ({', '.join(SUPPORTED)}), found {key!r}.")


def torchvision_key(key: str) -> str:
    """The way back: the name in torchvision's ResNet of a tensor of `ResNetModel`.

    Raises:
        ValueError: if the key is not one of `ResNetModel`.
    """
    if found := re.fullmatch(r"embedder\.embedder\.(convolution|normalization)\.(\w+)", key):
        return f"{_short(found[1])}1.{found[2]}"
    stage_and_block = r"encoder\.stages\.(\d)\.layers\.(\d+)\."
    if found := re.fullmatch(stage_and_block + r"layer\.(\d)\.(convolution|normalization)\.(\w+)", key):
        stage, block, number, kind, name = found.groups()
        return f"layer{int(stage) + 1}.{block}.{_short(kind)}{int(number) + 1}.{name}"
    if found := re.fullmatch(stage_and_block + r"shortcut\.(convolution|normalization)\.(\w+)", key):
        stage, block, kind, name = found.groups()
        return f"layer{int(stage) + 1}.{block}.downsample.{0 if kind == 'convolution' else 1}.{name}"
    raise ValueError(f"Expected a tensor of transformers' ResNetModel, found {key!r}.")


def _kind(short: str) -> str:
    return "convolution" if short == "conv" else "normalization"


def _short(kind: str) -> str:
    return "conv" if kind == "convolution" else "bn"


def _download(source: str) -> dict[str, torch.Tensor]:
    architecture, _, weights = source.partition(":")
    if architecture not in SUPPORTED:
        raise ValueError(
            f"torchvision architecture {architecture!r} is not supported. Supported: {', '.join(SUPPORTED)}, "
            "or the path of a .pth file with the weights of one. Others: use the transformers checkpoint."
        )
    from torchvision.models import get_model_weights  # only needed for this source

    known = get_model_weights(architecture).__members__
    name = weights or DEFAULT_WEIGHTS
    if name not in known:
        raise ValueError(f"{architecture} has no weights {name!r} in torchvision; it has {sorted(known)}.")
    return known[name].get_state_dict(progress=True, check_hash=True)
