"""`export` writes a model that onnxruntime runs as torch does, at any batch and length, or none."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, ResNetConfig, ResNetModel, ViTImageProcessorPil

from hf_mmtab import MMBTForClassification, MMBTProcessor, TabBertConfig, TabBertProcessor
from hf_mmtab.commands.export import main as export_command
from hf_mmtab.exporting import checkpoint as exporting
from hf_mmtab.exporting import export_checkpoint
from hf_mmtab.exporting.onnx_lstm import ExportedLstm, lstm_layer
from hf_mmtab.models.mmbt import MMBTBaselineForClassification, MMBTImageProcessor
from hf_mmtab.models.tabbert import (
    TabBertForMaskedLM,
    TabBertLstmForSequenceClassification,
    TabBertMlpForSequenceClassification,
    TabBertPooledForSequenceClassification,
    TabBertRawLstmForSequenceClassification,
)
from hf_mmtab.models.tabbert.modeling_tabbert_lstm import TabBertLstm
from hf_mmtab.models.tabbert.processing.values import as_table
from hf_mmtab.serving import Predictor
from hf_mmtab.statistics import RowStatistics, columns_of_history

SMALL = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 32}
SMALL |= {"field_hidden_size": 16, "field_num_heads": 2}
NEXT = {"next_row": True}
HEADS = {
    "lstm": (TabBertLstmForSequenceClassification, {"lstm_bidirectional": True, "lstm_num_layers": 2}),
    "surprise": (TabBertLstmForSequenceClassification, NEXT | {"row_inputs": "surprise"}),
    "both": (TabBertLstmForSequenceClassification, NEXT | {"row_inputs": "both", "label_level": "row"}),
    "numeric": (TabBertLstmForSequenceClassification, NEXT | {"numeric": "both", "row_inputs": "both"}),
    "flat": (TabBertLstmForSequenceClassification, {"flatten": True, "field_hidden_size": 24}),
    "members": (TabBertLstmForSequenceClassification, {"lstm_members": 2}),
    "mlp": (TabBertMlpForSequenceClassification, {"problem_type": "regression", "num_labels": 2}),
    "pooled": (TabBertPooledForSequenceClassification, {"pooling": "mean"}),
    "raw_lstm": (TabBertRawLstmForSequenceClassification, {}),
    "statistics": (
        TabBertLstmForSequenceClassification,
        NEXT | {"row_inputs": ["surprise", "windowed_surprise", "statistics"]},
    ),
    "statistics_alone": (TabBertMlpForSequenceClassification, {"row_inputs": "statistics", "label_level": "row"}),
    "statistics_periodic": (
        TabBertLstmForSequenceClassification,
        {"row_inputs": ["states", "statistics"], "statistics_embedding": "periodic"},
    ),
    "masked": (TabBertForMaskedLM, {}),
}


@pytest.fixture(scope="module")
def table() -> dict:
    rng = np.random.default_rng(0)
    return {
        "who": [1] * 60,
        "amount": rng.normal(size=60).round(3).tolist(),
        "shop": [f"shop {n}" for n in rng.integers(0, 30, 60)],
    }


def save_table_model(folder, table, kind, **settings):
    plan = {"entity": "who", "fields": {"amount": {"kind": "numeric", "num_bins": 8}, "shop": {}}}
    processor = TabBertProcessor(plan).fit(table)
    make, own = HEADS[kind]
    torch.manual_seed(0)
    values = None
    if "statistics" in kind:
        columns = columns_of_history(as_table(table), processor)
        statistics = RowStatistics.fit(columns, np.arange(60) < 40, ["category", "row", "rhythm", "numbers"])
        processor.statistics, values = statistics.to_dict(), torch.tensor(statistics.table(columns))
        settings |= {"statistics": statistics.names, "statistics_codes": statistics.categorical}
    config = TabBertConfig(**processor.config_kwargs(own.get("numeric", "bins")) | SMALL | own | settings)
    model = make(config).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)  # so that windows differ
    if hasattr(getattr(model, "model", None), "surprise"):
        model.model.surprise.learn_rarity(torch.arange(config.vocab_size))
    if values is not None:
        model.numbers.learn_quantiles(values)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


# `tests/serving` exports what reads both, a test below what pools, and `tests/commands/test_boosted_and_fusion.py` a
# trained head that reads statistics beside surprise; the layers of a bidirectional LSTM are compared below.
LIKE_OTHERS = ("lstm", "both", "pooled", "statistics")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.nightly) if kind in LIKE_OTHERS else kind for kind in HEADS]
)
def test_table_models_export_and_the_command_names_only_a_use_that_works(kind, table, tmp_path, capsys):
    save_table_model(tmp_path / "model", table, kind)
    shared = kind == "surprise"  # weights that several products share are quantised, too
    export_command([str(tmp_path / "model"), str(tmp_path / "out"), *["--int8"] * shared])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("onnxruntime differs from torch by ")
    assert "batches of 1 × 1, 2 × 9, 6 × 4" in said[0] and said[1].startswith("int8: ") == shared
    settings = json.loads((tmp_path / "out" / "serving.json").read_text())
    assert (settings["labels"] is None) == (kind == "masked")
    assert ("run model.onnx with onnxruntime" if kind == "masked" else "hf-mmtab serve") in said[-1]
    assert ("hf-mmtab serve" in said[-1]) == (kind != "masked")
    if kind == "masked":
        with pytest.raises(ValueError, match="Expected a model with labels in"):
            Predictor(tmp_path / "out")


@pytest.mark.slow
def test_a_model_whose_numbers_differ_is_not_written(table, tmp_path, monkeypatch):
    save_table_model(tmp_path / "model", table, "raw_lstm")
    monkeypatch.setattr(exporting, "TOLERANCE", 0.0)
    with pytest.raises(ValueError, match=r"Expected outputs of ONNX within 0.0 of torch's, found a difference"):
        export_checkpoint(str(tmp_path / "model"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


EARLIER = {"family": "tabbert", "labels": [], "config": {}, "pad_token_id": 0, "text": None, "image": None}


@pytest.mark.parametrize(
    "files",
    [
        {"letter.txt": "dear"},
        {"serving.json": "{}", "thesis.docx": "years"},  # a service of somebody else
        {"serving.json": "{}"},
        {"serving.json": json.dumps(EARLIER), "model.onnx": "", "notes.txt": "mine"},  # before files were listed
        {"serving.json": json.dumps(EARLIER | {"files": ["model.onnx"]}), "model.onnx": "", "vocab.txt": "mine"},
        {"serving.json": json.dumps(EARLIER | {"files": ["model.onnx"]}), "sub/data.csv": "mine"},
    ],
)
def test_a_folder_with_other_files_is_refused(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="Expected a new folder, or one of an earlier export and nothing else"):
        export_checkpoint("nowhere", tmp_path)
    assert {name: (tmp_path / name).read_text() for name in files} == files


def test_the_working_folder_is_no_place_for_an_export(tmp_path, monkeypatch):
    (tmp_path / "serving.json").write_text(json.dumps(EARLIER))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="which is or holds the working folder"):
        export_checkpoint("nowhere", ".")


@pytest.mark.slow
def test_an_earlier_export_is_replaced_through_a_link_by_quantised_weights_whose_cost_is_said(table, tmp_path):
    save_table_model(tmp_path / "model", table, "pooled", hidden_size=256, intermediate_size=512)
    export_checkpoint(str(tmp_path / "model"), tmp_path / "out")
    whole = (tmp_path / "out" / "model.onnx").stat().st_size
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / ".out.hf_mmtab-draft" / "work" / "export").mkdir(parents=True)  # of a killed one
    (tmp_path / ".out.hf_mmtab-draft" / ".hf_mmtab.lock").touch()
    said = export_checkpoint(str(tmp_path / "model"), tmp_path / "link", int8=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "model", "out"]
    for file in (tmp_path / "out").iterdir():  # and names no path
        assert b"site-packages" not in file.read_bytes() and b"hf_mmtab/models" not in file.read_bytes()
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 0.4 * whole
    assert "a score differs from torch's by 0." in said[1]
    assert "at most on 64 random examples" in said[1]
    assert Predictor(tmp_path / "link")({name: values[:5] for name, values in table.items()})["score"] <= 1


def test_the_encoder_alone_is_refused(table, tmp_path):
    model, _ = save_table_model(tmp_path / "head", table, "lstm")
    model.model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="found TabBertModel, which has no ONNX export"):
        export_checkpoint(str(tmp_path / "model"), tmp_path / "out")


def test_a_model_whose_statistics_one_history_does_not_tell_is_refused(table, tmp_path):
    _, processor = save_table_model(tmp_path / "model", table, "statistics")
    processor.statistics["orderings"] = {"shop": 8}
    processor.orderings = {"shop": str(tmp_path / "model")}
    processor.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"found one that reads how unexpected rows are in other orderings \(shop\)"):
        export_checkpoint(str(tmp_path / "model"), tmp_path / "out")


def test_a_head_without_the_statistics_that_it_reads_is_refused(table, tmp_path):
    save_table_model(tmp_path / "model", table, "statistics")
    (tmp_path / "model" / "tabbert_statistics.json").unlink()
    with pytest.raises(ValueError, match="Expected the statistics that the model was trained with in its processor"):
        export_checkpoint(str(tmp_path / "model"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_exported_lstm_gives_the_numbers_of_ours(bidirectional):
    torch.manual_seed(0)
    config = TabBertConfig(
        fields=["a"], field_ranges=[[4, 9]], vocab_size=9, lstm_bidirectional=bidirectional, lstm_num_layers=2
    )
    lstm = TabBertLstm(config, 5).eval()
    states, mask = torch.randn(3, 7, 5), torch.ones(3, 7, dtype=torch.long)
    mask[1, 3:] = 0
    with torch.no_grad():
        expected = lstm.run(states, mask)
        lstm.__class__ = ExportedLstm
        found = lstm.run(states, mask)
    torch.testing.assert_close(found * mask[..., None], expected * mask[..., None])


def test_the_operator_of_the_lstm_knows_its_shape():
    weights = [torch.randn(16, 5), torch.randn(16, 4), torch.randn(16), torch.randn(16)]
    torch.library.opcheck(lstm_layer, (torch.randn(2, 3, 5), *weights), test_utils="test_faketensor")


# ---- Pictures with texts ----

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "of", "dogs;", "in", "the"]


def save_pair_model(folder, image_processor, make=MMBTForClassification, parts=("text", "image"), **settings):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    text, image = folder / "text", folder / "image"
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **sizes)).save_pretrained(text)
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = WhitespaceSplit()
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    tokenizer.save_pretrained(text)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(image)
    chosen = {name: str(path) for name, path in (("text", text), ("image", image)) if name in parts}
    model = make.from_text_image_pretrained(**chosen, num_labels=3, **settings)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "image_model" not in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder / "model")
    baseline = make is not MMBTForClassification
    processor = MMBTProcessor(
        image_processor if "image" in parts else None,
        tokenizer if "text" in parts or "word_vectors" in settings else None,
        max_length=20,
        leading_cls=baseline,
        segment_offset=0 if baseline else 1,
    )
    processor.save_pretrained(folder / "model")
    return str(folder / "model")


def vit():
    return ViTImageProcessorPil(size={"height": 64, "width": 48})


PAIRS = {
    "mmbt": (vit, MMBTForClassification, ("text", "image"), {"num_image_embeds": 3}),
    "legacy": (
        MMBTImageProcessor,
        MMBTForClassification,
        ("text", "image"),
        {"image_pooling": "max", "num_image_embeds": 4, "problem_type": "multi_label_classification"},
    ),
    "concatbert": (vit, MMBTBaselineForClassification, ("text", "image"), {"hidden_sizes": [7]}),
    "bert": (vit, MMBTBaselineForClassification, ("text",), {}),
    "img": (vit, MMBTBaselineForClassification, ("image",), {}),
    "bow": (vit, MMBTBaselineForClassification, (), {"word_vectors": torch.ones(len(WORDS), 7)}),
    "concatbow": (vit, MMBTBaselineForClassification, ("image",), {"word_vectors": torch.ones(len(WORDS), 7)}),
}


# Parts of others: `bert` is the text of `concatbert` without a picture, as `bow` is without one; `concatbow` joins what
# `bow` and `img` read as `concatbert` joins its two. `tests/serving` exports `mmbt`.
LIKE_OTHER_PAIRS = ("bert", "concatbow")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.nightly) if kind in LIKE_OTHER_PAIRS else kind for kind in PAIRS]
)
def test_picture_and_text_models_export(kind, tmp_path):
    image_processor, make, parts, settings = PAIRS[kind]
    model = save_pair_model(tmp_path, image_processor(), make, parts, **settings)
    said = export_checkpoint(model, tmp_path / "out")
    assert said[0].startswith("onnxruntime differs from torch by ")
    assert said[1].startswith("pictures and texts read without torch give scores that differ by ")


def test_an_unknown_image_processor_is_refused(tmp_path):
    class OddImageProcessor(MMBTImageProcessor):
        pass

    with pytest.raises(ValueError, match=r"Expected an image processor that resizes.*found OddImageProcessor"):
        exporting.serving_settings(
            MMBTForClassification.config_class(), MMBTProcessor(image_processor=OddImageProcessor())
        )
