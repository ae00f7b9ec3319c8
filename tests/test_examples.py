"""Every Python block of the documents and every example of a docstring runs, in a folder that holds what they name."""

import ast
import doctest
import importlib
import re
import shutil
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pytest
import torchvision
from PIL import Image
from transformers import BertConfig, BertModel

import hf_mmtab
from hf_mmtab import (
    MMBTCollator,
    MMBTProcessor,
    TabBertConfig,
    TabBertForMaskedLM,
    TabBertLstmForSequenceClassification,
    TabBertProcessor,
)
from hf_mmtab.data.card_transactions import CardTransactions
from hf_mmtab.data.encoded import EncodedDataset
from hf_mmtab.models.mmbt import torchvision_weights
from hf_mmtab.models.tabbert.processing.plan_presets import resolve_plan

ROOT = Path(__file__).parents[1]
PACKAGE = Path(hf_mmtab.__file__).parent
RUNS = ROOT / "tests" / "fixtures" / "runs_0_1"
SMALL = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 2, "intermediate_size": 16}
SHOP = {"who": [1, 1, 2, 2], "amount": [1.0, 2.0, 3.0, 4.0], "shop": ["a", "b", "a", "b"]}
PLAN = "entity: who\nfields:\n  amount: {kind: numeric, num_bins: 2}\n  shop: {}\n"


def test_no_document_is_forgotten():
    assert len(DOCUMENTS) > 2 and len(MODULES) > 10


def has_example(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    is_served = path.parent.name == "serving"  # tests/serving runs that on models that it exports
    return not is_served and (">>> " in text or "```python" in text)


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if has_example(path))
DOCUMENTS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *PACKAGE.rglob("*.md"),
        *ROOT.glob("scripts/**/*.md"),
        *ROOT.glob("model_cards/*.md"),
    ]
    if "```python" in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory) -> Path:
    """Return a folder with the files and the models that examples name, all of them tiny."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("poster.jpg", "fork.png"):
        Image.new("RGB", (64, 48), "teal").save(folder / name)
    shutil.copytree(RUNS / "tiny-text", folder / "google-bert" / "bert-base-uncased")
    config = BertConfig.from_pretrained(RUNS / "tiny-text")
    BertModel(config).save_pretrained(folder / "google-bert" / "bert-base-uncased")
    shutil.copytree(RUNS / "mmbt", folder / "outputs" / "openclipart" / "mmbt-seed1")
    lines = [f"2024-01-{1 + i:02d} 10:00,{7 + i % 2},{'ab'[i % 3 > 0]},{i}" for i in range(24)]
    (folder / "payments.csv").write_text("\n".join(["booked_at,account,shop,amount", *lines]) + "\n")
    shutil.copyfile(ROOT / "tests" / "fixtures" / "cards_400.csv", folder / "new_payments.csv")
    (folder / "my_plan.yaml").write_text(PLAN)
    (folder / "products").mkdir()
    products = "".join(f'{{"image": null, "text": "t{i}", "category": "{"ab"[i % 2]}"}}\n' for i in range(20))
    (folder / "products" / "products.jsonl").write_text(products)
    reader = CardTransactions(str(folder / "new_payments.csv"), cache_dir=str(folder / "cache"))
    reader.download_and_prepare()
    cards = resolve_plan("card").edit(entity=("User",))  # as the recipe of simulated_cards_finetune has it
    save_head(folder / "outputs" / "simulated_cards_finetune", cards, reader.as_dataset(split="train"))
    payments = {"entity": "account", "time": "booked_at", "fields": {"shop": {}}}
    table = pl.read_csv(folder / "payments.csv", try_parse_dates=True)
    save_head(folder / "outputs" / "payments_finetune", payments, table)
    processor = TabBertProcessor({"fields": {"shop": {}}}).fit(SHOP)
    config = TabBertConfig(**processor.config_kwargs(), **SMALL)
    TabBertForMaskedLM(config).save_pretrained(folder / "out" / "pretrain")
    return folder


def save_head(folder: Path, plan, rows) -> None:
    processor = TabBertProcessor(plan).fit(rows)
    config = TabBertConfig(**processor.config_kwargs(), **SMALL, seq_len=5, id2label={0: "No", 1: "Yes"})
    TabBertLstmForSequenceClassification(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def tiny_resnet(name: str) -> dict:
    """Stand in for the download of torchvision's weights."""
    return torchvision.models.resnet18(weights=None).state_dict()


@pytest.fixture(scope="module")
def given(furnished) -> dict:
    """Return what examples take as given: a model with its rows and collator, tables, and what judges rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(furnished)
        patch.setattr(torchvision_weights, "_download", tiny_resnet)
        return make_given()


def make_given() -> dict:
    base = "google-bert/bert-base-uncased"
    model = hf_mmtab.MMBTForClassification.from_text_image_pretrained(base, "torchvision:resnet152", num_labels=3)
    processor = MMBTProcessor.from_text_image_pretrained(base, "torchvision:resnet152")
    examples = [{"image": "poster.jpg", "text": "a b", "label": i} for i in (0, 1)]
    test = datasets.Dataset.from_list([{"image": None, "text": f"t{i}", "label": i} for i in range(4)])
    shop = pl.DataFrame(SHOP)
    return {
        "model": model,
        "collator": MMBTCollator(processor),
        "rows": EncodedDataset(examples, processor.encode_row),
        "photo": Image.new("RGB", (32, 32)),
        "test": test,
        "evaluate_rows": lambda rows: {"accuracy": float(np.mean([row["text"] != "" for row in rows]))},
        "training_rows": shop,
        "january": shop[:2],
        "february": shop[2:],
    }


@pytest.fixture
def world(furnished, given, monkeypatch) -> dict:
    """Change to the folder, without the network and progress bars; return the names that examples take as given."""
    monkeypatch.chdir(furnished)
    monkeypatch.setattr(torchvision_weights, "_download", tiny_resnet)
    monkeypatch.setattr("hf_mmtab.pipelines.image_text.fetch_picture", lambda *_, **__: Path("poster.jpg").read_bytes())
    monkeypatch.setattr("tqdm.auto.tqdm.write", lambda *_, **__: None)
    return dict(given)


def run(block: str, names: dict) -> None:
    if "TabBertProcessor(" in block:
        names["rows"] = names["training_rows"]
    exec(compile(block, "example", "exec"), names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_of_a_document_run_one_after_the_other(document, world):
    for block in re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.S | re.M):
        run(block, world)


def docstrings(module: Path) -> list[str]:
    nodes = [
        node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    return [text for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_of_docstrings_run_and_give_what_they_say(module, world):
    dotted = ".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts)
    names = {**world, **vars(importlib.import_module(dotted))}
    for text in docstrings(module):
        for block in re.findall(r"```python\n(.*?)```", text, re.S):
            if ">>>" not in block:
                run(block, dict(names))
        plain = re.sub(r"^\s*```.*$", "", text, flags=re.M)
        test = doctest.DocTestParser().get_doctest(plain, dict(names), dotted, str(module), 0)
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(test)
        assert runner.summarize(verbose=False).failed == 0, test.docstring
