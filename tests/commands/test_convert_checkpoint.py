"""Checkpoints of the originals become ours, give the original's numbers, train on, and go back."""

import argparse
import json
import os
import shutil
import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    BertTokenizer,
    ResNetConfig,
    ResNetModel,
)

from hf_mmtab.commands.convert_checkpoint import main
from hf_mmtab.commands.finetune import load_recipe
from hf_mmtab.commands.finetune import main as finetune
from hf_mmtab.converting.mmbt_weights import from_original
from hf_mmtab.converting.torch_files import read_state_dict, read_torch_file
from hf_mmtab.converting.writing import write_whole
from hf_mmtab.data.card_transactions import CardTransactions
from hf_mmtab.tasks import place_convolutions

EXACT = {"rtol": 0, "atol": 1e-5}
LABELS = ["L0", "L1", "L2", "L3", "L4"]
HEADS = ["--num_attention_heads", "4"]
KINDS = ["mmbt", "bert", "img", "bow", "concatbow", "concatbert"]


@pytest.fixture
def convert(tmp_path, capsys):
    """Run the command into a new folder; return the folder and what was printed."""

    def run(*arguments):
        destination = tmp_path / f"converted-{len(list(tmp_path.iterdir()))}"
        main([str(arguments[0]), str(arguments[1]), str(destination), *map(str, arguments[2:])])
        return destination, capsys.readouterr().out

    return run


@pytest.fixture
def mmbt_folder(golden):
    return golden / "mmbt"


@pytest.fixture
def table(golden):
    """Options of the vocabulary that the golden TabFormer models share."""
    folder = golden / "tabformer" / "vocab20k"
    return ["--vocab", folder / "vocab.nb", "--encoder_fit", folder / "encoder_fit.pkl"]


def write_run(folder: Path, golden: Path, kind: str, monkeypatch, **changes) -> Path:
    """Write a run folder as the original would have, around golden weights of one kind."""
    folder.mkdir()
    expected = json.loads((golden / "mmbt" / "expected.json").read_text())["settings"]
    tensors = load_file(golden / "mmbt" / f"{kind}_init.safetensors")

    class Vocab:
        pass

    module = types.ModuleType("mmbt.data.vocab")
    Vocab.__module__, Vocab.__qualname__, module.Vocab = "mmbt.data.vocab", "Vocab", Vocab
    for name in ("mmbt", "mmbt.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "mmbt.data.vocab", module)
    vocabulary = Vocab()
    if "bow" in kind:
        words = [line.split(" ", 1)[0] for line in (golden / "mmbt" / "glove.txt").read_text().splitlines()]
        words = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    else:
        words = (golden / "mmbt" / "vocab.txt").read_text().splitlines()
    vocabulary.stoi = {word: place for place, word in enumerate(words)}
    vocabulary.itos, vocabulary.vocab_sz = words, len(words)
    args = argparse.Namespace(
        model=kind,
        task="mmimdb",
        task_type="multilabel",
        labels=list(LABELS),
        label_freqs=Counter(expected["label_freqs"]),
        train_data_len=expected["train_data_len"],
        weight_classes=1,
        n_classes=5,
        num_image_embeds=3,
        img_embed_pool_type="avg",
        max_seq_len=40,
        dropout=0.1,
        bert_model="elsewhere/vocab.txt",
        freeze_img=3,
        freeze_txt=5,
        patience=5,
        lr=5e-5,
        warmup=0.1,
        hidden=[32] if kind == "concatbert" else [],
        include_bn=True,
        data_path="data",
        savedir="outputs/run",
        vocab=vocabulary,
    )
    for name, value in changes.items():
        setattr(args, name, value)
    torch.save(args, folder / "args.pt", _use_new_zipfile_serialization=False)
    checkpoint = {"epoch": 1, "state_dict": tensors, "best_metric": np.float64(0.5)}
    torch.save(checkpoint, folder / "model_best.pt", _use_new_zipfile_serialization=False)
    for name in ("mmbt", "mmbt.data", "mmbt.data.vocab"):
        monkeypatch.delitem(sys.modules, name)
    return folder


def mmbt_batch(golden, kind):
    inputs = load_file(golden / "mmbt" / "inputs.safetensors")
    mean = torch.tensor([0.46777044, 0.44531429, 0.40661017])[:, None, None]
    std = torch.tensor([0.12221994, 0.12145835, 0.14380469])[:, None, None]
    batch = {"attention_mask": inputs["attention_mask"]}
    batch["input_ids"] = inputs["bow_txt" if "bow" in kind else "input_txt"]
    if kind in ("mmbt", "bert", "concatbert"):
        batch["token_type_ids"] = inputs["segment_mmbt" if kind == "mmbt" else "segment_bert"]
    if kind not in ("bert", "bow"):
        batch["pixel_values"] = (inputs["image_uint8"].float() / 255 - mean) / std
    return batch, inputs["target_multilabel"]


def trains_on(model, batch, labels) -> float:
    """Take ten steps; return by how much the loss without dropout fell."""
    torch.manual_seed(0)
    with torch.no_grad():
        before = model.eval()(**batch, labels=labels).loss.item()
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    with torch.no_grad():
        return before - model.eval()(**batch, labels=labels).loss.item()


# --- MMBT


def test_a_run_of_the_original_gives_its_logits_from_raw_rows(convert, golden, mmbt_folder):
    folder, printed = convert("mmbt", mmbt_folder / "run_dir", *HEADS)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    expected = load_file(mmbt_folder / "run_dir" / "expected.safetensors")
    data = mmbt_folder / "data" / "mmimdb"
    rows = [json.loads(line) for line in (data / "dev.jsonl").read_text().splitlines()]
    images = [None if row["img"] is None else str(data / row["img"]) for row in rows]
    batch = processor(images=images, text=[row["text"] for row in rows])
    assert torch.equal(batch["input_ids"], expected["txt"])
    assert torch.equal(batch["attention_mask"], expected["mask"])
    with torch.no_grad():
        # one picture is a JPEG, whose decoders differ by a level or two
        sure = [place for place, image in enumerate(images) if not str(image).endswith(".jpg")]
        torch.testing.assert_close(model(**batch).logits[sure], expected["logits"][sure], **EXACT)
    config = model.config
    assert [config.id2label[i] for i in range(5)] == ["L0", "L1", "L3", "L2", "L4"]
    assert config.problem_type == "multi_label_classification" and config.thresholds == [0.5] * 5
    assert config.pos_weight == pytest.approx([7 / 3, 7 / 4, 7 / 3, 7 / 2, 7 / 1])
    assert "115 kept, 5 tied, 2 dropped of 122" in printed
    assert "enc.clf.weight → ∅  dropped: the original never calls this second classifier" in printed
    names = {line.split(" → ")[0] for line in printed.splitlines() if " → " in line}
    assert names == set(read_torch_file(mmbt_folder / "run_dir" / "model_best.pt")["state_dict"])
    report = json.loads((folder / "conversion.json").read_text())
    assert len(report["tensors"]) == 122 and report["read"] == ["model_best.pt", "args.pt"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_of_the_original_converts_trains_on_and_goes_back(
    kind, convert, golden, mmbt_folder, tmp_path, monkeypatch
):
    run = write_run(tmp_path / "run", golden, kind, monkeypatch)
    folder, _ = convert("mmbt", run, *HEADS)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch, labels = mmbt_batch(golden, kind)
    with torch.no_grad():
        logits = model(**batch).logits
    torch.testing.assert_close(logits, load_file(mmbt_folder / "outputs.safetensors")[f"{kind}.logits"], **EXACT)
    processor = AutoProcessor.from_pretrained(folder)
    if kind != "img":
        assert processor.leading_cls == (kind != "mmbt")
        inputs = {"images": [None]} if kind not in ("bert", "bow") else {}
        encoded = processor(text=["w12 w7"], **inputs)
        assert model(
            **{k: v for k, v in encoded.items() if k != "token_type_ids" or "bow" not in kind}
        ).logits.shape == (1, 5)
    assert trains_on(model, batch, labels) > 0

    back, printed = convert("mmbt", folder, "--reverse")
    # as the original loads it
    checkpoint = torch.load(back / "model_best.pt", weights_only=True)["state_dict"]
    original = load_file(mmbt_folder / f"{kind}_init.safetensors")
    assert set(checkpoint) == set(original)
    assert all(torch.equal(checkpoint[k], original[k]) for k in original if not k.startswith("enc.clf"))
    assert f"--model {kind} --task_type multilabel" in printed and "must be: L0, L1, L2, L3, L4" in printed
    again, _ = convert("mmbt", back, *HEADS, "--args", run / "args.pt")
    twice = AutoModelForSequenceClassification.from_pretrained(again)
    first = AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    assert all(torch.equal(first[k], v) for k, v in twice.state_dict().items())


def test_the_flags_become_a_recipe(convert, mmbt_folder):
    folder, _ = convert("mmbt", mmbt_folder / "run_dir", *HEADS)
    recipe = load_recipe([str(folder / "recipe.yaml")])
    assert (recipe.data.task, recipe.model.architecture, recipe.model.max_length) == ("mmimdb", "mmbt", 40)
    training = recipe.training
    assert training.freeze == {"image_encoder": "1 epochs", "text_encoder": "2 epochs"}
    assert (training.optim_preset, training.learning_rate, training.warmup_steps) == ("bertadam", 5e-5, 0.1)
    assert (training.pos_weight, training.early_stopping_patience) == ("total_over_positives", 5)
    assert (training.num_train_epochs, training.plateau_patience, training.seed) == (4, 2, 234)


def test_a_single_label_run_with_pairs_has_three_segments(convert, golden, mmbt_folder, tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", golden, "mmbt", monkeypatch, task="vsnli", task_type="classification")
    with pytest.raises(ValueError, match="Expected 3 segments for the task 'vsnli', found 2 in the checkpoint"):
        convert("mmbt", run, *HEADS)
    checkpoint = torch.load(run / "model_best.pt", weights_only=False)
    table = load_file(mmbt_folder / "mmbt_vsnli_token_type.safetensors")["token_type_embeddings"]
    for part in ("txt", "img"):
        checkpoint["state_dict"][f"enc.{part}_embeddings.token_type_embeddings.weight"] = table
    torch.save(checkpoint, run / "model_best.pt", _use_new_zipfile_serialization=False)
    folder, printed = convert("mmbt", run, *HEADS)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.problem_type == "single_label_classification"
    assert model.config.thresholds is None and model.config.pos_weight is None
    assert "task: vsnli" in printed
    batch, _ = mmbt_batch(golden, "mmbt")
    batch["token_type_ids"] = load_file(mmbt_folder / "inputs.safetensors")["segment_vsnli"]
    expected = load_file(mmbt_folder / "outputs.safetensors")["mmbt.logits.vsnli"]
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, expected, **EXACT)


def test_weights_without_args_ask_for_what_they_do_not_tell(convert, mmbt_folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(mmbt_folder / "run_dir" / "model_best.pt", run)
    with pytest.raises(ValueError, match=r"tell model, task_type, labels, found \[\].*--labels \.\.\."):
        convert("mmbt", run)
    told = ["--model", "mmbt", "--task_type", "multilabel", "--labels", *"abcde"]
    with pytest.raises(ValueError, match=r"pass --num_image_embeds \.\.\. --img_embed_pool_type"):
        convert("mmbt", run, *told)
    told += ["--num_image_embeds", "3", "--img_embed_pool_type", "avg"]
    with pytest.raises(ValueError, match=r"attention heads of this BERT .* pass --num_attention_heads"):
        convert("mmbt", run, *told)
    with pytest.raises(ValueError, match=r"Expected the run's vocabulary in args.pt, found none. Pass --tokenizer"):
        convert("mmbt", run, *told, *HEADS)
    folder, _ = convert("mmbt", run / "model_best.pt", *told, *HEADS, "--vocab", mmbt_folder / "vocab.txt")
    whole, _ = convert("mmbt", mmbt_folder / "run_dir", *HEADS)
    ours, theirs = (AutoModelForSequenceClassification.from_pretrained(f) for f in (folder, whole))
    assert ours.config.id2label[0] == "a" and ours.config.pos_weight is None
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    BertTokenizer.from_pretrained(mmbt_folder).save_pretrained(tmp_path / "tokenizer")
    folder, _ = convert("mmbt", run, *told, *HEADS, "--tokenizer", tmp_path / "tokenizer")
    ids = [AutoProcessor.from_pretrained(f)(images=[None], text=["w5 w9"])["input_ids"] for f in (folder, whole)]
    assert torch.equal(*ids)


def test_mixed_up_runs_are_refused_and_nothing_is_written(convert, golden, tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", golden, "mmbt", monkeypatch)
    bow = write_run(tmp_path / "bow", golden, "bow", monkeypatch)
    cases = {
        ("mmbt", run, "--args", bow / "args.pt"): "Expected a tensor of the original 'bow' model, found 'enc",
        ("mmbt", bow, "--args", run / "args.pt"): "Expected a tensor of the original 'mmbt' model, found 'enc.embed",
        ("mmbt", run, "--labels", "a", "b"): r"Expected 5 labels, as the checkpoint has outputs, found 2",
        ("mmbt", run, "--labels", *"aabcd"): "Expected different labels",
        ("mmbt", run, "--model", "clip"): "Expected model to be one of mmbt, bert",
        (
            "mmbt",
            run,
            "--vocab",
            golden / "tabformer" / "vocab20k" / "vocab.nb",
        ): "Expected a vocabulary of different words with",
        ("mmbt", run / "args.pt"): "found a argparse.Namespace. Is it args.pt",
        ("mmbt", run, "--args", run / "model_best.pt"): r"Expected the flags of a run \(argparse.Namespace\)",
        ("mmbt_transformers4", run / "model_best.pt"): "found a value of type int under 'epoch'",
        ("tabformer", run / "model_best.pt", "--config", golden / "tabformer" / "hier"): "under 'epoch'",
        ("mmbt", golden / "tabformer" / "common_model" / "model.bin", "--args", run / "args.pt"): "found 'model.",
    }
    before = sorted(tmp_path.iterdir())
    for (kind, *arguments), message in cases.items():
        heads = HEADS if kind == "mmbt" else []
        with pytest.raises(ValueError, match=message):
            convert(kind, *arguments, *heads)
    with pytest.raises(FileNotFoundError, match=r"\(model_best.pt or checkpoint.pt\) in .*, found \['"):
        convert("mmbt", golden / "mmbt")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        convert("mmbt", tmp_path / "absent")
    assert sorted(tmp_path.iterdir()) == before


def test_damaged_and_extra_tensors_are_refused(convert, golden, tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", golden, "mmbt", monkeypatch)
    whole = torch.load(run / "model_best.pt", weights_only=False)

    def with_tensors(change):
        tensors = dict(whole["state_dict"])
        change(tensors)
        torch.save({**whole, "state_dict": tensors}, run / "model_best.pt", _use_new_zipfile_serialization=False)

    with_tensors(lambda tensors: tensors.update({"enc.extra": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"found 'enc.extra'"):
        convert("mmbt", run, *HEADS)
    with_tensors(lambda tensors: tensors.pop("enc.pooler.dense.bias"))
    with pytest.raises(ValueError, match=r"(?s)does not fit the 'mmbt' model of its args.*pooler\.dense\.bias"):
        convert("mmbt", run, *HEADS)
    with_tensors(lambda tensors: tensors.pop("enc.txt_embeddings.word_embeddings.weight"))
    with pytest.raises(ValueError, match=r"word_embeddings"):
        convert("mmbt", run, *HEADS)
    name = "enc.img_embeddings.word_embeddings.weight"
    with_tensors(lambda tensors: tensors.update({name: tensors[name] + 1}))
    with pytest.raises(ValueError, match="which it is shared with; they differ"):
        convert("mmbt", run, *HEADS)
    content = (run / "model_best.pt").read_bytes()
    # One number of the last tensor: which tensor is last, and so how long it is, is up to their addresses.
    (run / "model_best.pt").write_bytes(content[:-4])
    with pytest.raises(ValueError, match="expected 4 more bytes"):
        convert("mmbt", run, *HEADS)


def test_a_malicious_checkpoint_is_refused_and_nothing_runs(convert, golden, tmp_path, monkeypatch):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'canary'}",)

    run = write_run(tmp_path / "run", golden, "bert", monkeypatch)
    for file in ("model_best.pt", "args.pt"):
        whole = (run / file).read_bytes()
        for old in (True, False):
            torch.save({"state_dict": {}, "more": Attack()}, run / file, _use_new_zipfile_serialization=not old)
            before = sorted(tmp_path.iterdir())
            with pytest.raises(ValueError, match=r"it asks for posix.system.*Nothing in it was run"):
                convert("mmbt", run, *HEADS)
            assert sorted(tmp_path.iterdir()) == before and not (tmp_path / "canary").exists()
        (run / file).write_bytes(whole)


@pytest.mark.slow
def test_a_converted_run_is_finetuned_further(convert, mmbt_folder, tmp_path, monkeypatch):
    """Its ResNet has few channels: channels last, oneDNN would overrun the heap in the backward pass."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    folder, _ = convert("mmbt", mmbt_folder / "run_dir", *HEADS)
    overrides = ["--pretrained", folder, "--data", mmbt_folder / "data" / "mmimdb", "--report_to", "none"]
    overrides += ["--output_dir", tmp_path / "finetuned", "--num_train_epochs", "2", "--bootstrap", "0"]
    finetune([str(folder / "recipe.yaml"), *map(str, overrides)])
    state = json.loads((tmp_path / "finetuned" / "trainer_state.json").read_text())
    assert state["global_step"] == 8
    before, after = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "finetuned"))
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("image_model" in name for name in moved) and any("classifier" in name for name in moved)


def test_kernels_stay_as_they_are_where_channels_last_would_overrun_the_heap():
    def resnet(width, layer_type):
        sizes = [width * step for step in ((4, 8) if layer_type == "bottleneck" else (1, 2))]
        config = ResNetConfig(embedding_size=width, hidden_sizes=sizes, depths=[1, 1], layer_type=layer_type)
        return place_convolutions(ResNetModel(config))

    def is_placed(model):
        kernels = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
        return [kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels]

    for width, layer_type in ((4, "basic"), (8, "basic"), (15, "basic"), (2, "bottleneck")):
        assert not all(is_placed(resnet(width, layer_type))), (width, layer_type)
        assert not is_placed(resnet(width, layer_type))[0]
    for width, layer_type in ((16, "basic"), (64, "basic"), (4, "bottleneck")):
        assert all(is_placed(resnet(width, layer_type))), (width, layer_type)


# --- the MMBT of transformers 2 to 4


def transformers4_names(original):
    """Golden weights under the names of transformers' former MMBT (models/mmbt/modeling_mmbt.py, v4.x)."""
    renamed = {}
    for name, tensor in original.items():
        for theirs, ours in (
            ("enc.txt_embeddings.", "mmbt.transformer.embeddings."),
            ("enc.encoder.", "mmbt.transformer.encoder."),
            ("enc.pooler.", "mmbt.transformer.pooler."),
            ("enc.img_encoder.", "mmbt.modal_encoder.encoder."),
            ("enc.img_embeddings.img_embeddings.", "mmbt.modal_encoder.proj_embeddings."),
            ("enc.img_embeddings.", "mmbt.modal_encoder."),
            ("clf.", "classifier."),
        ):
            if name.startswith(theirs):
                renamed[ours + name.removeprefix(theirs)] = tensor
                break
    renamed["mmbt.transformer.embeddings.position_ids"] = torch.arange(64)[None]
    return renamed


def test_the_former_mmbt_of_transformers_converts(convert, golden, mmbt_folder, tmp_path):
    saved = tmp_path / "run"
    saved.mkdir()
    tensors = transformers4_names(load_file(mmbt_folder / "mmbt_init.safetensors"))
    torch.save(tensors, saved / "pytorch_model.bin")
    BertTokenizer.from_pretrained(mmbt_folder).save_pretrained(saved)
    shutil.copy(mmbt_folder / "vocab.txt", saved)
    options = ["--labels", *LABELS, "--task_type", "multilabel", "--num_image_embeds", "3", *HEADS]
    folder, printed = convert("mmbt_transformers4", saved, *options)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    batch, labels = mmbt_batch(golden, "mmbt")
    with torch.no_grad():
        logits = model(**batch).logits
    torch.testing.assert_close(logits, load_file(mmbt_folder / "outputs.safetensors")["mmbt.logits"], **EXACT)
    assert model.config.classifier_dropout == 0.1
    assert trains_on(model, batch, labels) > 0
    names = {line.split(" → ")[0] for line in printed.splitlines() if " → " in line}
    assert names == set(tensors)
    assert "mmbt.transformer.embeddings.position_ids → ∅  dropped: constant" in printed
    shared = "the same tensor as mmbt.transformer.embeddings.word_embeddings.weight"
    assert shared in printed
    with pytest.raises(ValueError, match="Expected the run's args to tell task_type, labels, num_image_embeds"):
        convert("mmbt_transformers4", saved)
    with pytest.raises(ValueError, match=r"found that of transformers 2 to 4 .* Use the kind mmbt_transformers4"):
        convert("mmbt", saved / "pytorch_model.bin", *options)
    torch.save({**tensors, "mmbt.transformer.extra": torch.zeros(1)}, saved / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"found 'mmbt.transformer.extra': nothing was converted"):
        convert("mmbt_transformers4", saved, *options)
    segments = "mmbt.transformer.embeddings.token_type_embeddings.weight"
    one = {key: value[:1] if key == segments else value for key, value in tensors.items()}
    torch.save(one, saved / "pytorch_model.bin")
    with pytest.raises(ValueError, match="Expected a BERT with two segments in MMBT, found one"):
        convert("mmbt_transformers4", saved, *options)
    with pytest.raises(ValueError, match="is for the kinds mmbt and tabformer, found 'mmbt_transformers4'"):
        convert("mmbt_transformers4", folder, "--reverse")


# --- TabFormer


def golden_checkpoint(folder: Path, golden: Path, name: str) -> Path:
    """A checkpoint folder around one of the golden TabFormer models."""
    folder.mkdir()
    source = golden / "tabformer" / name
    torch.save(load_file(source / "model.safetensors"), folder / "pytorch_model.bin")
    shutil.copy(source / "config.json", folder)
    return folder


def moved_ids(folder: Path) -> torch.Tensor:
    return torch.tensor(json.loads((folder / "tabformer_vocabulary.json").read_text())["ids"])


@pytest.mark.parametrize("name", ["hier", "flat_field_ce", pytest.param("flat_vanilla", marks=pytest.mark.slow)])
def test_tabformer_gives_the_originals_logits_trains_on_and_goes_back(name, convert, golden, table, tmp_path):
    source = golden_checkpoint(tmp_path / "checkpoint-500", golden, name)
    option = {"hier": [], "flat_field_ce": ["--field_ce"], "flat_vanilla": ["--no-field_ce"]}[name]
    folder, printed = convert("tabformer", source, *table, *option)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tensors = load_file(golden / "tabformer" / name / "model.safetensors")
    names = {line.split(" → ")[0] for line in printed.splitlines() if " → " in line}
    assert names == set(tensors)
    io = load_file(golden / "tabformer" / name / "io.safetensors")
    ids, moved = io["input_ids"].view(2, 10, 12), moved_ids(folder)
    labels = io["labels"].view(2, 10, 12)
    ours = torch.where(labels == -100, labels, moved[labels.clamp(min=0)])
    with torch.no_grad():
        outputs = model(moved[ids], labels=ours)
    expected = json.loads((golden / "tabformer" / "expected.json").read_text())[name]
    assert outputs.loss.item() == pytest.approx(expected["loss"], abs=1e-5)
    check_logits(model, moved[ids], moved, io["logits"])
    assert trains_on(model, {"input_ids": moved[ids]}, ours) > 0

    back, _ = convert("tabformer", folder, "--reverse")
    reverted = torch.load(back / "pytorch_model.bin", weights_only=True)
    assert set(reverted) == set(tensors)
    held = torch.ones(648, dtype=torch.bool)
    held[-2:] = False  # "Is Fraud?": no column can hold it; a hierarchical model's scores of it are given up
    for key, tensor in tensors.items():
        rows = held if name == "hier" and tensor.shape[0] == 648 and "tab_emb" not in key else slice(None)
        assert "pooler" in key or torch.equal(reverted[key][rows], tensor[rows]), key
    config = json.loads((back / "config.json").read_text())
    theirs = json.loads((source / "config.json").read_text())
    shared = set(theirs) - {"architectures", "gradient_checkpointing", "total_flos"}
    assert {key: config.get(key) for key in shared} == {key: theirs[key] for key in shared}
    assert (back / "vocab.nb").read_text() == (golden / "tabformer" / "vocab20k" / "vocab.nb").read_text()
    again, _ = convert("tabformer", back, "--encoder_fit", table[-1])
    first, twice = (AutoModelForMaskedLM.from_pretrained(f).state_dict() for f in (folder, again))
    assert all(torch.equal(first[key], twice[key]) for key in first)


def check_logits(model, ids, moved, expected):
    """Compare the scores of every cell over the ids of its column with the original's."""
    expected = expected.view(len(ids), 10, 12, -1)
    place = torch.empty_like(moved)
    place[moved] = torch.arange(len(moved))  # the original's id of each of ours
    with torch.no_grad():
        logits = model(ids, return_field_logits=True).field_logits
    for column, (start, end) in enumerate(model.config.field_ranges):
        reference = expected[:, :, column][..., place[start:end]]
        torch.testing.assert_close(logits[column], reference, **EXACT)


@pytest.mark.parametrize(("name", "io_of"), [("hier", "hier"), ("flat", "flat_vanilla")])
def test_checkpoints_of_the_originals_trainer_convert(name, io_of, convert, golden, table):
    source = golden / "tabformer" / f"output_pretraining_{name}" / "checkpoint-500"
    folder, _ = convert("tabformer", source, *table)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    io, moved = load_file(golden / "tabformer" / io_of / "io.safetensors"), moved_ids(folder)
    labels = io["labels"].view(2, 10, 12)
    labels = torch.where(labels == -100, labels, moved[labels.clamp(min=0)])
    with torch.no_grad():
        loss = model(moved[io["input_ids"].view(2, 10, 12)], labels=labels).loss
    expected = json.loads((golden / "tabformer" / "expected.json").read_text())[f"ck_{name}"]
    assert loss.item() == pytest.approx(expected["loss_on_io_batch"], abs=1e-5)
    processor = AutoProcessor.from_pretrained(folder)
    model.check_processor(processor.fingerprint)


def test_the_converted_processor_gives_the_originals_ids_of_raw_rows(convert, golden, tmp_path):
    """`card2k.csv` through encoder_fit.pkl and vocab.nb: every window as the original's data set made it."""
    prepared = golden / "tabformer" / "prep2k"
    info = json.loads((prepared / "info.json").read_text())["stride10"]
    source = golden_checkpoint(tmp_path / "checkpoint-500", golden, "hier")
    config = json.loads((source / "config.json").read_text())
    tensors = torch.load(source / "pytorch_model.bin", weights_only=True)
    size = info["vocab_size"]
    for key, tensor in tensors.items():
        if tensor.dim() and tensor.shape[0] == 648:
            tensors[key] = tensor[:size].clone()
    torch.save(tensors, source / "pytorch_model.bin")
    (source / "config.json").write_text(json.dumps({**config, "vocab_size": size}))
    shutil.copy(prepared / "encoder_fit.pkl", source)  # found beside the checkpoint
    shutil.copy(prepared / "vocab.nb", source.parent)  # found in the output folder
    folder, _ = convert("tabformer", source)
    processor, moved = AutoProcessor.from_pretrained(folder), moved_ids(folder)

    builder = CardTransactions(prepared / "card2k.csv", cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    rows = builder.as_dataset(split="train")
    encoded = processor.encode(rows)
    ids = np.stack([encoded[name].to_numpy() for name in processor.fields], axis=1)
    starts, users = [], np.array(rows["User"])
    for user in dict.fromkeys(users.tolist()):
        (where,) = np.nonzero(users == user)
        starts += [where[at] for at in range(0, len(where) - 9, 10)]
    place = np.empty(size, dtype=np.int64)
    place[moved.numpy()] = np.arange(size)
    ours = place[np.stack([ids[start : start + 10].reshape(-1) for start in starts])]
    expected = load_file(prepared / "windows.safetensors")["stride10.input_ids"].numpy()
    assert np.array_equal(ours, expected)
    # the ids of bins increase with the value
    amounts = pl.Series(rows["Amount"])
    column = processor.fields.index("Amount")
    order = np.argsort(amounts.clip(1.0).to_numpy(), kind="stable")
    assert (np.diff(ids[order, column]) >= 0).all()


def test_the_published_lstm_gives_its_logits_and_trains_on(convert, golden, table):
    folder = golden / "tabformer"
    source = ["lstm", folder / "common_model" / "model.bin"]
    pretraining = ["--config", folder / "output_pretraining_flat" / "checkpoint-500"]
    binary = ["--vocab", folder / "vocab20k" / "vocab_token2id.bin", *table[2:]]
    converted, printed = convert(*source, *pretraining, *binary)
    model = AutoModelForSequenceClassification.from_pretrained(converted).eval()
    io = load_file(folder / "common_model" / "io.safetensors")
    ids = moved_ids(converted)[io["input_ids"].view(8, 10, 12)]
    with torch.no_grad():
        outputs = model(ids, labels=io["label"].argmax(-1))
    torch.testing.assert_close(outputs.logits, io["logits"], **EXACT)
    expected = json.loads((folder / "expected.json").read_text())["common_model"]["loss"]
    assert outputs.loss.item() == pytest.approx(expected, abs=1e-5)
    assert model.config.id2label == {0: "No", 1: "Yes"}
    assert "75 kept, 0 tied, 3 dropped of 78" in printed
    assert trains_on(model, {"input_ids": ids}, io["label"].argmax(-1)) > 0
    with pytest.raises(ValueError, match=r"Found the LSTM fine-tuning model .* use the kind lstm"):
        convert("tabformer", *source[1:], *pretraining, *binary)
    with pytest.raises(ValueError, match="Expected 2 labels, as the model has outputs, found"):
        convert(*source, *pretraining, *binary, "--labels", "a", "b", "c")
    with pytest.raises(FileNotFoundError, match=r"Expected the config.json of the pretraining.*--config"):
        convert(*source, *binary)
    with pytest.raises(ValueError, match="use the kind tabformer"):
        convert("lstm", folder / "output_pretraining_flat" / "checkpoint-500", *binary)
    with pytest.raises(ValueError, match="is for the kinds mmbt and tabformer, found 'lstm'"):
        convert("lstm", converted, "--reverse")


def test_tabformers_gpt2_gives_the_originals_logits_trains_on_and_generates(convert, golden, table, tmp_path):
    source = golden_checkpoint(tmp_path / "checkpoint-500", golden, "gpt2")
    folder, printed = convert("tabformer", source, *table)
    model, moved = AutoModelForCausalLM.from_pretrained(folder).eval(), moved_ids(folder)
    names = {line.split(" → ")[0] for line in printed.splitlines() if " → " in line}
    assert names == set(load_file(golden / "tabformer" / "gpt2" / "model.safetensors"))
    assert "transformer.h.0.attn.masked_bias → ∅  dropped: constant mask" in printed
    io = load_file(golden / "tabformer" / "gpt2" / "io.safetensors")
    ids = moved[io["input_ids"]]
    rows = ids[:, 1:-1].view(2, 10, 11)  # without [BOS] and [EOS]
    with torch.no_grad():
        logits, loss = model(ids[:1]).logits, model(rows, labels=rows).loss
    torch.testing.assert_close(logits[..., moved], io["logits"], **EXACT)
    expected = json.loads((golden / "tabformer" / "expected.json").read_text())["gpt2"]
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-5)
    assert trains_on(model, {"input_ids": rows}, rows) > 0
    processor = AutoProcessor.from_pretrained(folder)
    model.check_processor(processor.fingerprint)
    made = model.generate_rows([rows[0], rows[1, :0]], rows=12)
    assert processor.decode(made[1]).num_rows == 12  # refuses an id of another field


def test_a_tabgpt_goes_back_to_the_tensors_of_the_original(convert, golden, table, tmp_path):
    source = golden_checkpoint(tmp_path / "checkpoint-500", golden, "gpt2")
    folder, _ = convert("tabformer", source, *table)
    back, _ = convert("tabformer", folder, "--reverse")
    reverted = torch.load(back / "pytorch_model.bin", weights_only=True)
    expected = load_file(golden / "tabformer" / "gpt2" / "model.safetensors")
    assert set(reverted) == set(expected)
    assert all(torch.equal(reverted[name], tensor) for name, tensor in expected.items())
    config, theirs = (json.loads((one / "config.json").read_text()) for one in (back, source))
    shared = [name for name in theirs if not name.startswith("summary_")]
    assert {name: config.get(name) for name in shared} == {name: theirs[name] for name in shared}
    again, _ = convert("tabformer", back, "--encoder_fit", table[-1])
    first, twice = (AutoModelForCausalLM.from_pretrained(f).state_dict() for f in (folder, again))
    assert all(torch.equal(first[key], twice[key]) for key in first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layer": 3}, "Expected n_layer = 3, as config.json says, found 2"),
        ({"n_positions": 10**9}, "Expected n_positions = 1000000000, as config.json says, found 160"),
        ({"n_head": 5}, "Expected n_head of config.json to divide n_embd=48, found 5"),
        ({"n_head": "4"}, "Expected n_head of config.json to be a whole number"),
        ({"n_inner": 7}, "weights do not fit config.json"),
        ({"resid_pdrop": 2.0}, "Expected resid_pdrop of config.json to be a number from 0 to 1"),
        ({"activation_function": "eval"}, "Expected activation_function of config.json to be one of"),
        ({"vocab_size": None}, "Expected a vocabulary of None tokens"),
    ],
)
def test_a_changed_config_of_gpt2_is_refused(changes, message, convert, golden, table, tmp_path):
    source = golden_checkpoint(tmp_path / "checkpoint-500", golden, "gpt2")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        convert("tabformer", source, *table)


def test_a_gpt2_with_foreign_or_untied_tensors_is_refused(convert, golden, table, tmp_path):
    source = golden_checkpoint(tmp_path / "checkpoint-500", golden, "gpt2")
    tensors = torch.load(source / "pytorch_model.bin", weights_only=True)
    head = tensors["lm_head.weight"]
    cases = {
        "unexpected: transformer.h.0.extra": {"transformer.h.0.extra": head},
        "'lm_head.weight' and 'transformer.wte.weight' to be the same": {"lm_head.weight": head + 1},
    }
    for message, changed in cases.items():
        torch.save({**tensors, **changed}, source / "pytorch_model.bin")
        with pytest.raises(ValueError, match=message):
            convert("tabformer", source, *table)


def test_mixed_up_tabformer_files_are_refused_and_nothing_is_written(convert, golden, table, tmp_path):
    folder = golden / "tabformer"
    hier = golden_checkpoint(tmp_path / "hier", golden, "hier")
    lines = (folder / "vocab20k" / "vocab.nb").read_text().splitlines()

    def vocabulary(name, content):
        (tmp_path / name).write_text("\n".join(content))
        return ["--vocab", tmp_path / name, *table[2:]]

    air = [*lines[:7], *(f"timestamp_{n}.0" for n in range(50)), *(f"SO2_{n}.0" for n in range(591))]
    swapped = [*lines[:-3], lines[-2], lines[-3], lines[-1]]
    users = [line.replace("User_0", "User_zero") for line in lines]
    high = [line.replace("Merchant Name_0", "Merchant Name_99999") for line in lines]
    twice = [line.replace("Amount_0.0", "Amount_1.0") for line in lines]
    special = [line.replace("SPECIAL_[BOS]", "SPECIAL_[EOT]") for line in lines]
    cases = {
        "vocabulary of 648 tokens .* found 309": ["--vocab", folder / "prep2k" / "vocab.nb", *table[2:]],
        "Expected values 0 to .* The two come from different runs": [
            *table[:2],
            "--encoder_fit",
            folder / "prep2k" / "encoder_fit.pkl",
        ],
        "no readable pickle|Expected the encoders of TabFormer's card table": [*table[:2], "--encoder_fit", table[1]],
        "Expected the encoders of TabFormer's card table": [
            *table[:2],
            "--encoder_fit",
            folder / "vocab20k" / "vocab_token2id.bin",
        ],
        "to map field → token": ["--vocab", table[3], *table[2:]],
        "vocabulary of TabFormer's PRSA table": vocabulary("air.nb", air),
        "Expected lines `Column_value`": vocabulary("words.nb", ["hello"] * 648),
        "to follow one another": vocabulary("swapped.nb", swapped),
        "Expected numbers as values of 'User'": vocabulary("users.nb", users),
        "Expected values 0 to .* of 'Merchant Name'": vocabulary("high.nb", high),
        "Expected bins 0 to 9 of 'Amount', each once": vocabulary("twice.nb", twice),
        "Expected the special tokens": vocabulary("special.nb", special),
        "in this order": vocabulary("order.nb", [*lines[:7], *lines[27:32], *lines[7:27], *lines[32:]]),
        "Expected the config.json of a TabFormer checkpoint": [
            *table,
            "--config",
            write_json(tmp_path / "config.json", {"hidden_size": 3}),
        ],
        "Expected a JSON mapping in": [*table, "--config", write_text(tmp_path / "cut.json", '{"ncols":')],
        "Expected a flat model, as config.json says, found a hierarchical one": [
            *table,
            "--config",
            folder / "flat_vanilla",
        ],
    }
    before = sorted(tmp_path.iterdir())
    for message, options in cases.items():
        with pytest.raises(ValueError, match=message):
            convert("tabformer", hier, *options)
    with pytest.raises(FileNotFoundError, match=r"Expected the vocabulary of the run.*--vocab FILE"):
        convert("tabformer", hier)
    with pytest.raises(FileNotFoundError, match=r"Expected the encoders of the run.*--encoder_fit FILE"):
        convert("tabformer", hier, *table[:2])
    tensors = load_file(folder / "hier" / "model.safetensors")
    tensors.pop("tab_embeddings.lin_proj.bias")
    torch.save(tensors, hier / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"(?s)or some are missing.*projection\.bias"):
        convert("tabformer", hier, *table)
    assert sorted(tmp_path.iterdir()) == before


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def write_json(path: Path, value) -> Path:
    return write_text(path, json.dumps(value))


# --- writing


def test_dst_is_written_whole_or_not_at_all(tmp_path, mmbt_folder, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(FileExistsError, match="not to exist, found files"):
        main(["mmbt", str(mmbt_folder / "run_dir"), str(tmp_path / "full"), *HEADS])
    with pytest.raises(FileExistsError, match="not to exist"):
        main(["mmbt", str(mmbt_folder / "run_dir"), str(tmp_path / "full"), "--reverse"])

    def fails(folder):
        (folder / "half").write_text("x")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        write_whole(tmp_path / "new", fails)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_only_models_that_the_original_can_hold_go_back(convert, golden, table, tmp_path, mmbt_folder):
    folder, _ = convert("mmbt", mmbt_folder / "run_dir", *HEADS)
    hier = golden / "tabformer" / "output_pretraining_hier" / "checkpoint-500"
    other, _ = convert("tabformer", hier, *table)
    (other / "tabformer_vocabulary.json").unlink()
    with pytest.raises(ValueError, match="Only models that came from TabFormer by this command go back"):
        convert("tabformer", other, "--reverse")
    with pytest.raises(ValueError, match=r"Unrecognized configuration|mmbt"):
        convert("tabformer", folder, "--reverse")


def test_from_original_knows_what_reading_keeps(mmbt_folder):
    tensors = read_state_dict(mmbt_folder / "img_init.safetensors")
    assert {fate.original for fate in from_original("img", tensors)[1]} == set(tensors)
