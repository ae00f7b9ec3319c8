"""A checkpoint loads where transformers is imported and this package is not."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import polars as pl
import pytest
import torch
from packaging.requirements import Requirement
from transformers import (
    AutoModelForSequenceClassification,
    AutoProcessor,
    BertConfig,
    BertTokenizer,
    ResNetConfig,
    ViTImageProcessor,
    pipeline,
)
from transformers.dynamic_module_utils import get_imports

from hf_mmtab import (
    MMBTConfig,
    MMBTEnsembleForClassification,
    MMBTForClassification,
    MMBTProcessor,
    TabBertConfig,
    TabBertMlpForSequenceClassification,
    TabBertProcessor,
    make_standalone,
)
from hf_mmtab.models.travelling import LOADER

PICTURES, TABLES = "image-text-classification", "tabular-sequence-classification"
EXAMPLE = {"image": None, "text": "a b"}
CLASSES = [
    "MMBTForClassification", "MMBTProcessor", "TabBertMlpForSequenceClassification", "TabBertProcessor",
]  # fmt: skip
HISTORY = {"who": [1, 1, 1], "amount": [1.0, 2.0, 3.0], "shop": ["a", "b", "a"]}
STRANGER = """
import gc, json, sys
gc.disable()
from transformers import AutoModelForSequenceClassification, AutoProcessor, pipeline
if sys.argv[1] == "alone":
    sys.modules["hf_mmtab"] = None  # as where it is not installed
assert sys.modules.get("hf_mmtab") is None
plain, given = json.loads(sys.argv[2]), sys.argv[3:]
for folder in [*plain, *given[:2]]:
    for auto in (AutoModelForSequenceClassification, AutoProcessor):
        try:
            print(type(auto.from_pretrained(folder, trust_remote_code=True)).__name__)
        except ImportError as error:
            print(error)
for task, folder, example in zip(given[2::2], given[:2], given[3::2]):
    answer = pipeline(task, model=folder, trust_remote_code=True, device="cpu")(json.loads(example))
    print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    root = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    text = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    image = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    config = MMBTConfig(text_config=text.to_dict(), image_config=image.to_dict(), cls_token_id=2, sep_token_id=3)
    MMBTForClassification(config).save_pretrained(root / "mmbt")
    (root / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]))
    reader = ViTImageProcessor(size={"height": 32, "width": 32})
    MMBTProcessor(reader, BertTokenizer(str(root / "vocab.txt"))).save_pretrained(root / "mmbt")

    plan = {"entity": "who", "fields": {"amount": {"kind": "numeric", "num_bins": 2}, "shop": {}}}
    processor = TabBertProcessor(plan).fit(pl.DataFrame(HISTORY))
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 8, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 8, "seq_len": 3, "window_label": "last"}
    table = TabBertConfig(**processor.config_kwargs(), **sizes)
    TabBertMlpForSequenceClassification(table).save_pretrained(root / "table")
    processor.save_pretrained(root / "table")
    return [str(root / "mmbt"), str(root / "table")]


def as_a_stranger(mode, folders, tmp_path, site: str | None = None, expect_error=False, plain=()) -> list[str]:
    """Return what the stranger's script says.

    Args:
        mode: installed, or alone: where the package is absent.
        folders: a model of pictures and one of tables, which are loaded and answer.
        tmp_path: for the code that travels.
        site: where the packages lie that there are, in place of all.
        expect_error: whether the script may end with one.
        plain: folders that are loaded before.
    """
    given = [PICTURES, json.dumps(EXAMPLE), TABLES, json.dumps(HISTORY)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": site or root}
    switches = [] if site is None else ["-S"]
    command = [sys.executable, *switches, "-c", STRANGER, mode, json.dumps(plain), *folders, *given]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert expect_error or done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def answers(folders) -> list:
    return [
        pipeline(task, model=folder, device="cpu")(example)
        for task, folder, example in zip((PICTURES, TABLES), folders, (EXAMPLE, HISTORY), strict=True)
    ]


@pytest.mark.slow
def test_a_checkpoint_loads_where_the_package_is_installed_and_not_imported(folders, tmp_path):
    *classes, mmbt, table = as_a_stranger("installed", folders, tmp_path)
    assert classes == CLASSES and [json.loads(mmbt), json.loads(table)] == answers(folders)


@pytest.fixture(scope="module")
def standalone(folders, tmp_path_factory) -> list[str]:
    copies = []
    for folder in folders:
        copy = tmp_path_factory.mktemp("standalone") / Path(folder).name
        shutil.copytree(folder, copy)
        assert make_standalone(copy) and not make_standalone(copy)
        copies.append(str(copy))
    return copies


@pytest.mark.parametrize(("text", "stays"), [(LOADER, False), ("# mine", True)])
def test_the_loader_that_a_killed_call_left_goes_at_the_next_one(standalone, tmp_path, text, stays):
    for number, folder in enumerate(standalone):
        copy = Path(shutil.copytree(folder, tmp_path / str(number)))
        (copy / "hf_mmtab_classes.py").write_text(text)
        make_standalone(copy)
        assert (copy / "hf_mmtab_classes.py").exists() == stays


@pytest.mark.slow
def test_where_the_package_is_absent_it_is_named_and_an_ensemble_stands_alone(folders, standalone, tmp_path):
    member, processor = (one.from_pretrained(folders[0]) for one in (MMBTForClassification, MMBTProcessor))
    folder = tmp_path / "ensemble"
    MMBTEnsembleForClassification.from_members({"mmbt": member}, {"mmbt": 1.0}).save_pretrained(folder)
    processor.leading_cls, processor.segment_offset = True, 0  # as an ensemble reads texts
    processor.save_pretrained(folder)
    make_standalone(folder)
    told = as_a_stranger("alone", [str(folder), standalone[1]], tmp_path, plain=folders)
    assert all("pip install hf-mmtab" in line for line in told[:4]), told
    first, _, _, _, said, _ = told[4:]
    expected = answers(folders)[0]
    found = json.loads(said)
    assert first == "MMBTEnsembleForClassification" and found["label"] == expected["label"]
    assert found["score"] == pytest.approx(expected["score"], abs=1e-6)


def test_a_standalone_checkpoint_loads_here_as_before_and_can_be_saved_again(standalone, tmp_path):
    for folder, task, example in zip(standalone, (PICTURES, TABLES), (EXAMPLE, HISTORY), strict=True):
        for trust in (None, True):
            model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=trust)
            assert type(model).__module__.startswith("hf_mmtab.")
        AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path / task)
        model.save_pretrained(tmp_path / task)
        expected = pipeline(task, model=folder, device="cpu", trust_remote_code=True)(example)
        assert pipeline(task, model=str(tmp_path / task), device="cpu")(example) == expected


def test_each_file_that_transformers_opens_names_all_libraries(standalone):
    """Transformers looks for absent ones in that file alone, not in those that it imports."""
    opened = ["processing_tabbert", "tables", "modeling_tabbert_windows"]
    named = [set(get_imports(f"{standalone[1]}/hf_mmtab_{name}.py")) for name in opened]
    assert [{"polars", "pyarrow"} & one for one in named] == [{"polars", "pyarrow"}] * 2 + [set()]
    assert "torchvision" in get_imports(f"{standalone[0]}/hf_mmtab_image_text.py")


def test_a_folder_without_a_model_cannot_stand_alone(tmp_path):
    with pytest.raises(ValueError, match="Expected a model of hf_mmtab"):
        make_standalone(tmp_path)


def folder_of_packages(folder: Path, *names: str) -> str:
    """Link the installed packages of these names, and what they need, into a folder; return its path."""
    folder.mkdir(exist_ok=True)
    wanted, done = list(names), set()
    while wanted:
        name = wanted.pop()
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform
        if found.name in done:
            continue
        done.add(found.name)
        needs = [Requirement(text) for text in found.requires or ()]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    return str(folder)


@pytest.mark.slow
def test_a_standalone_checkpoint_needs_torch_torchvision_and_transformers_only(folders, standalone, tmp_path):
    """Where nothing else is installed; tables need polars and pyarrow too, and say so."""
    site = folder_of_packages(tmp_path / "site", "torch", "torchvision", "transformers")
    said = as_a_stranger("alone", standalone, tmp_path, site, expect_error=True)
    assert said[:3] == ["MMBTForClassification", "MMBTProcessor", "TabBertMlpForSequenceClassification"]
    assert "pip install polars pyarrow" in said[3]
    folder_of_packages(tmp_path / "site", "polars", "pyarrow")
    *classes, mmbt, table = as_a_stranger("alone", standalone, tmp_path, site)
    assert classes == CLASSES and [json.loads(mmbt), json.loads(table)] == answers(folders)


def test_saving_again_and_loading_keep_fingerprint_and_names(folders, tmp_path):
    again = MMBTProcessor.from_pretrained(folders[0])
    before = again.fingerprint
    again.save_pretrained(tmp_path)
    assert MMBTProcessor.from_pretrained(tmp_path).fingerprint == before == again.fingerprint
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["auto_map"] == {"AutoProcessor": "hf_mmtab_classes.MMBTProcessor"}
