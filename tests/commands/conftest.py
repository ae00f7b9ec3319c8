"""A tiny pretrained pair of models and a tiny data set whose label needs both inputs."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image
from transformers import BertConfig, BertModel, BertTokenizer, ResNetConfig, ResNetModel, ViTImageProcessor

from hf_mmtab.commands import finetune
from hf_mmtab.reports import page, reasons
from hf_mmtab.reports.page import Page, Picture
from hf_mmtab.training import callbacks
from hf_mmtab.training.features import cache

# One white pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg=="
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sea", "land", "a", "the", "old", "new"]


def save_blank(_, file, *args, **options) -> None:
    if hasattr(file, "write"):
        file.write(PNG)
    else:
        Path(file).write_bytes(PNG)


def draw_blank(page: Page, name: str, alt: str, plot, *args) -> None:
    page.pictures[name] = Picture(name, alt, PNG)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item):
    """Figures are not rendered, which is half of the time of a tiny run, in fixtures too, and built where a test is
    marked with `figures` alone. The tests of the report and of the audit draw theirs. Two rows of a page have reasons,
    and two are read twice before features are stored, not eight: the tests of the report and of the store do all.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save_blank)
        patch.setattr(callbacks, "plot_audit", save_blank)
        for module in (page, reasons):
            patch.setattr(module, "EXPLAINED", 2)
        patch.setattr(cache, "READ_TWICE", 2)
        if not item.get_closest_marker("figures"):
            patch.setattr(Page, "draw", draw_blank)
        return (yield)


pytest_runtest_call = pytest_runtest_setup


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory) -> str:
    """Folder of a random BERT with two layers and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-text")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_image(tmp_path_factory) -> str:
    """Folder of a random ResNet with two stages and its image processor."""
    folder = tmp_path_factory.mktemp("tiny-image")
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of red and blue pictures with a word each: the label is their exclusive or."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "img").mkdir()
    rng = np.random.default_rng(0)
    for split, size in (("train", 48), ("dev", 16), ("test", 16)):
        lines = []
        for index in range(size):
            red, sea = bool(index & 1), bool(index & 2)
            pixels = rng.integers(0, 60, (40, 40, 3), dtype=np.uint8)
            pixels[..., 0 if red else 2] += 180
            name = f"img/{split}-{index}.png"
            Image.fromarray(pixels).save(folder / name)
            label = "same" if red == sea else "other"
            lines.append(
                {"id": f"{split}-{index}", "text": f"the {'sea' if sea else 'land'}", "img": name, "label": label}
            )
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(autouse=True)
def pictures_alone(request: pytest.FixtureRequest):
    """What a test writes beside the pictures, which all tests of a process share, is removed after it."""
    if "pictures" not in request.fixturenames:
        yield
        return
    folder = request.getfixturevalue("pictures")
    before = set(folder.iterdir())
    yield
    for path in set(folder.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def recipe(tmp_path, tiny_text, tiny_image, pictures) -> Path:
    """A recipe of two epochs on the tiny data."""
    return write_recipe(tmp_path, tiny_text, tiny_image, pictures)


@pytest.fixture(scope="session")
def finished_pictures(tmp_path_factory, tiny_text, tiny_image, pictures) -> Path:
    """The folder of a finished run of one epoch on pictures and texts, which tests only read."""
    folder = tmp_path_factory.mktemp("finished-pictures")
    recipe = write_recipe(folder, tiny_text, tiny_image, pictures)
    finetune.main([str(recipe), "--num_train_epochs", "1", "--reasons", "true"])
    return folder / "run"


def write_recipe(folder: Path, tiny_text: str, tiny_image: str, pictures: Path) -> Path:
    values = {
        "task": "image_text",
        "data": str(pictures),
        "output_dir": str(folder / "run"),
        "text_model": tiny_text,
        "image_model": tiny_image,
        "num_image_embeds": 1,
        "max_length": 16,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "learning_rate": 1.0e-3,
        "freeze": {"image_encoder": "1 epoch"},
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "logging_steps": 2,
        "report_to": "none",
        "bootstrap": 20,
        "ablation": False,
        "reasons": False,
        "seed": 1,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def runs(tmp_path, fixtures, monkeypatch) -> Path:
    """A copy of the runs of version 0.1.0, finished and interrupted, as the working folder: their recipes name data and
    models relative to it.
    """
    folder = tmp_path / "runs"
    shutil.copytree(fixtures / "runs_0_1", folder)
    monkeypatch.chdir(folder)
    return folder
