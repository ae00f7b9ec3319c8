"""The Hub: everything by name in a process whose Hub is `hub_server`, and what `push_to_hub` refuses beforehand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer, Repository
from transformers import BertConfig, BertModel, BertTokenizer

from hf_mmtab import make_standalone
from hf_mmtab.commands.push_to_hub import files_to_push, main, push_run
from hf_mmtab.models.mmbt import MMBTBaselineConfig, MMBTBaselineForClassification, MMBTProcessor

TESTS = Path(__file__).resolve().parent
SESSION = TESTS / "hub_session.py"


@pytest.mark.slow
def test_everything_goes_to_a_hub_and_comes_back(tmp_path):
    """Run `hub_session.py`; its own failures are shown."""
    with HubServer() as hub:
        hub.repositories["acme/not-yours"] = Repository(private=True)
        hub.repositories["acme/gated"] = Repository(gated=True)
        rows = {"0" * 40: {"0.csv": b"n\n1\n"}}
        hub.repositories["datasets/acme/gated-cards"] = Repository(gated=True, commits=rows)
        hub.repositories["datasets/acme/cards-of-others"] = Repository(private=True, commits=rows)
        environment = {
            **os.environ,
            **hub.environment(tmp_path / "home"),
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "models" / "mmbt")]),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", str(SESSION)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=TESTS.parent)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert hub.repositories["acme/not-yours"].files() == {}


@pytest.fixture
def run(tmp_path) -> Path:
    """Folder of a text-only baseline and its processor."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = MMBTBaselineConfig(text_config=BertConfig(vocab_size=5, **sizes), num_labels=2)
    MMBTBaselineForClassification(config).save_pretrained(tmp_path / "run")
    MMBTProcessor(None, tokenizer()).save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])})


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


def test_only_what_others_need_is_uploaded(run):
    for name in (
        "optimizer.pt",
        "training_args.bin",
        "trainer_state.json",
        "notes.json",
        "modeling_own.py",
        "parts_of_own.py",
        "notes_of_mine.py",
        "README.md",
    ):
        (run / name).write_text("x = 1")
    (run / "modeling_own.py").write_text("from .parts_of_own import x")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "modeling_own.Own"}}))
    assert [file.name for file in files_to_push(run)] == [
        "config.json",
        "model.safetensors",
        "hf_mmtab_classes.py",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        "modeling_own.py",
        "parts_of_own.py",
    ]


def test_the_code_of_a_standalone_checkpoint_is_uploaded_whole(run):
    make_standalone(run)
    code = {file.name for file in run.glob("*.py")}
    assert {"hf_mmtab_modeling_baselines.py", "hf_mmtab_processing_mmbt.py", "hf_mmtab_image_text.py"} < code
    assert code == {file.name for file in files_to_push(run) if file.name.endswith(".py")}


def test_without_login_nothing_is_sent(run, no_token):
    with pytest.raises(
        ValueError, match=r"Expected you to be logged in to the Hub, found no token. Run `hf auth login`"
    ):
        main([str(run), "acme/mmbt"])


def test_without_login_a_run_is_not_made_to_stand_alone(run, no_token):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="found no token"):
        main([str(run), "acme/mmbt", "--standalone"])
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_folder_without_model_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"found no config.json. Name the folder of a run. Folders in it .*: run\.$"):
        push_run(tmp_path, "acme/mmbt")
    with pytest.raises(ValueError, match=r"found no config.json. Name the folder of a run.$"):
        push_run(tmp_path / "absent", "acme/mmbt")


def test_a_model_without_weights_is_refused(run):
    (run / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"Expected the weights of the model in .*, found no model.safetensors. Save"):
        push_run(run, "acme/mmbt")


def test_weights_with_a_part_missing_are_refused(run):
    (run / "model.safetensors").unlink()
    (run / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    with pytest.raises(
        ValueError, match=r"Expected all parts of the weights in .*, found no model-1.safetensors. Save"
    ):
        push_run(run, "acme/mmbt")


def test_a_folder_without_processor_is_refused(run):
    (run / "processor_config.json").unlink()
    with pytest.raises(ValueError, match=r"found neither processor_config.json nor preprocessor_config.json. Save it"):
        push_run(run, "acme/mmbt")


def test_a_foreign_processor_is_refused(run):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=5, **sizes)).save_pretrained(run)
    tokenizer().save_pretrained(run)  # names no processor of ours
    (run / "processor_config.json").write_text(json.dumps({"processor_class": "BertTokenizer"}))
    with pytest.raises(
        ValueError, match=r"Expected an MMBTProcessor or a TabBertProcessor in .*, found BertTokenizer. Save"
    ):
        push_run(run, "acme/mmbt")
