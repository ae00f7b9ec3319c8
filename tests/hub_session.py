"""What a user does with a Hub, against the stand-in at HF_ENDPOINT; run by test_hub.py in a process of its own.

Not collected by its name: the library reads HF_ENDPOINT when it is imported, so these tests need their own process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hub_server import EXPIRED_TOKEN
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, constants
from PIL import Image
from prepared_tables import arguments, events, expect_rows_of_one_machine, prepared, rows_of
from tiny_backbones import IMAGE_CONFIGS, TEXT_CONFIGS, VOCABULARY, tiny_config
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    BertTokenizer,
    ViTImageProcessor,
    pipeline,
)

from hf_mmtab.commands.push_to_hub import main, push_run
from hf_mmtab.data.reading.places import RemotePath, StoreError
from hf_mmtab.data.reading.records import BadRecordError
from hf_mmtab.data.table import Table
from hf_mmtab.models.mmbt import (
    MMBTBaselineConfig,
    MMBTBaselineForClassification,
    MMBTCollator,
    MMBTConfig,
    MMBTForClassification,
    MMBTImageProcessor,
    MMBTModel,
    MMBTProcessor,
)
from hf_mmtab.models.tabbert import (
    TabBertConfig,
    TabBertForMaskedLM,
    TabBertLstmForSequenceClassification,
    TabBertProcessor,
)

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "a", "red", "cat", "sits"]
WORDS += [f"[unused{i}]" for i in range(VOCABULARY - len(WORDS))]
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
ROWS = {"who": [1, 1, 1, 2, 2, 2], "amount": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "shop": ["a", "b", "a", "c", "ä", "b"]}
HISTORIES = [{name: values[i : i + 3] for name, values in ROWS.items()} for i in (0, 3)]
COLUMNS = {"entity": "who", "fields": {"amount": {"kind": "numeric", "num_bins": 3}, "shop": {}}}
MODEL_FILES = {"config.json", "hf_mmtab_classes.py", "model.safetensors"}
MMBT_PROCESSOR_FILES = {"processor_config.json", "tokenizer.json", "tokenizer_config.json"}
TABBERT_PROCESSOR_FILES = {"preprocessor_config.json", "tabbert_arrays.safetensors", "tabbert_values.json"}


@pytest.fixture(autouse=True)
def seeded():
    assert constants.ENDPOINT.startswith("http://127.0.0.1:")
    torch.manual_seed(0)


def mmbt_processor(**options) -> MMBTProcessor:
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})
    return MMBTProcessor(ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer, **options)


def tabbert() -> tuple[TabBertProcessor, TabBertConfig]:
    processor = TabBertProcessor(COLUMNS).fit(ROWS)
    sizes = {
        "field_hidden_size": 8,
        "field_num_heads": 2,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 16,
    }
    return processor, TabBertConfig(**processor.config_kwargs(), **sizes)


@pytest.fixture
def run_folder(tmp_path):
    """Save a model and its processor as a run leaves them, among files that are not for others."""

    def save(model, processor) -> Path:
        run = tmp_path / "run"
        model.save_pretrained(run)
        processor.save_pretrained(run)
        (run / "report" / "figures").mkdir(parents=True)
        for name in ("README.md", "report/report_public.html", "report/figures/confusion.png"):
            (run / name).write_text(f"content: of {name}\n")
        (run / "recipe.yaml").write_text("data: payments.csv\noutput_dir: run\n")
        results = {"architecture": "mmbt", "data": "payments.csv", "split": "test", "summary": "of the data"}
        (run / "results.json").write_text(json.dumps(results))
        for name in ("checkpoint-3/optimizer.pt", "checkpoint-3/model.safetensors", "_feature_cache/part.bin"):
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).write_text("large")
        for name in (
            "training_args.bin",
            "trainer_state.json",
            "update_audit.jsonl",
            "report/report.html",
            "report/figures/mine.png",
            "clean_customers.py",
        ):
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).write_text("{}" if "json" in name else "of the run")
        (run / "predictions").mkdir()
        pq.write_table(pa.table({"row": [1]}), run / "predictions" / "test.parquet")
        return run

    return save


def assert_same_weights(model, other) -> None:
    mine, theirs = model.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@torch.no_grad()
def logits(model, batch) -> torch.Tensor:
    return model.eval()(**batch).logits


def test_mmbt_and_its_processor_come_back_by_name_bit_for_bit(run_folder, capsys):
    model, processor = (MMBTForClassification(tiny_config(id2label={0: "cat", 1: "dog", 2: "owl"})), mmbt_processor())
    main([str(run_folder(model, processor)), "acme/mmbt", "--commit_message", "First model", "--public"])
    said = capsys.readouterr().out
    assert "/acme/mmbt/commit/" in said and "names of labels: cat, dog, owl" in said

    api = HfApi()
    report = {"README.md", "recipe.yaml", "results.json", "report/report.html", "report/figures/confusion.png"}
    assert set(api.list_repo_files("acme/mmbt")) == MODEL_FILES | MMBT_PROCESSOR_FILES | report
    assert not api.model_info("acme/mmbt").private

    config = AutoConfig.from_pretrained("acme/mmbt")
    assert type(config) is MMBTConfig and config.id2label == model.config.id2label
    reader = AutoProcessor.from_pretrained("acme/mmbt")
    assert type(reader) is MMBTProcessor and reader.fingerprint == processor.fingerprint
    batch = processor(images=[PICTURE, None], text=["a red cat", "cat"])
    again = reader(images=[PICTURE, None], text=["a red cat", "cat"])
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    for loader in (AutoModelForSequenceClassification, MMBTForClassification):
        loaded = loader.from_pretrained("acme/mmbt")
        assert type(loaded) is MMBTForClassification
        assert_same_weights(loaded, model)
        assert torch.equal(logits(loaded, again), logits(model, batch))
    classify = pipeline("image-text-classification", model="acme/mmbt", device="cpu")
    found = classify([{"image": PICTURE, "text": "a red cat"}, {"image": None, "text": "cat"}], batch_size=2)
    assert [one["label"] for one in found] == [config.id2label[int(i)] for i in logits(model, batch).argmax(-1)]
    classify.push_to_hub("acme/mmbt-pipeline")
    assert set(api.list_repo_files("acme/mmbt-pipeline")) == {"README.md"} | MODEL_FILES | MMBT_PROCESSOR_FILES
    base = AutoModel.from_pretrained("acme/mmbt")
    assert type(base) is MMBTModel
    assert_same_weights(base, model.model)


def test_a_baseline_and_its_processor_come_back_by_name_bit_for_bit(run_folder):
    config = MMBTBaselineConfig(
        text_config=TEXT_CONFIGS["bert"](), image_config=IMAGE_CONFIGS["resnet"](), num_labels=3
    )
    model = MMBTBaselineForClassification(config)
    processor = mmbt_processor(leading_cls=True, segment_offset=0)
    push_run(run_folder(model, processor), "acme/concatbert")
    loaded = AutoModelForSequenceClassification.from_pretrained("acme/concatbert")
    assert type(loaded) is MMBTBaselineForClassification and loaded.config.baseline == "concatbert"
    assert_same_weights(loaded, model)
    reader = AutoProcessor.from_pretrained("acme/concatbert")
    assert reader.fingerprint == processor.fingerprint
    batch = reader(images=[PICTURE, None], text=["a red cat", "cat"])
    assert torch.equal(
        logits(loaded, batch), logits(model, processor(images=[PICTURE, None], text=["a red cat", "cat"]))
    )


def test_a_text_only_processor_comes_back_without_pictures(run_folder):
    config = MMBTBaselineConfig(text_config=TEXT_CONFIGS["bert"](), num_labels=3)
    model = MMBTBaselineForClassification(config)
    processor = MMBTProcessor(None, mmbt_processor().tokenizer, leading_cls=True, segment_offset=0)
    push_run(run_folder(model, processor), "acme/bert")
    reader = AutoProcessor.from_pretrained("acme/bert")
    assert type(reader) is MMBTProcessor and reader.image_processor is None
    loaded = AutoModelForSequenceClassification.from_pretrained("acme/bert")
    assert_same_weights(loaded, model)
    ours, theirs = logits(loaded, reader(text="a cat")), logits(model, processor(text="a cat"))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)  # sums are rounded as weights lie in memory


def test_tabbert_and_its_processor_come_back_by_name_bit_for_bit(run_folder):
    processor, config = tabbert()
    model = TabBertLstmForSequenceClassification(config)
    push_run(run_folder(model, processor), "acme/tabbert")
    assert set(HfApi().list_repo_files("acme/tabbert")) >= MODEL_FILES | TABBERT_PROCESSOR_FILES
    reader = AutoProcessor.from_pretrained("acme/tabbert")
    assert type(reader) is TabBertProcessor and reader.fingerprint == processor.fingerprint
    loaded = AutoModelForSequenceClassification.from_pretrained("acme/tabbert")
    assert type(loaded) is TabBertLstmForSequenceClassification
    assert_same_weights(loaded, model)
    loaded.check_processor(reader.fingerprint)
    score = pipeline("tabular-sequence-classification", model="acme/tabbert", device="cpu")
    with torch.no_grad():
        expected = model.eval()(**processor(HISTORIES[0], return_tensors="pt")).logits[0].softmax(-1)
    assert score(HISTORIES[0])["score"] == pytest.approx(float(expected.max()), abs=1e-6)
    score.push_to_hub("acme/tabbert-pipeline")
    assert type(AutoProcessor.from_pretrained("acme/tabbert-pipeline")) is TabBertProcessor
    batch = reader(HISTORIES, return_tensors="pt")
    assert torch.equal(logits(loaded, batch), logits(model, processor(HISTORIES, return_tensors="pt")))


def test_transformers_own_push_to_hub_serves_as_well():
    processor, config = tabbert()
    model = TabBertForMaskedLM(config)
    model.push_to_hub("pretrained", private=True)
    processor.push_to_hub("pretrained")
    name = f"{HfApi().whoami()['name']}/pretrained"
    assert HfApi().model_info(name).private
    loaded = AutoModelForMaskedLM.from_pretrained(name)
    assert type(loaded) is TabBertForMaskedLM
    assert_same_weights(loaded, model)
    assert AutoProcessor.from_pretrained(name).fingerprint == processor.fingerprint
    mmbt_processor(max_length=7).push_to_hub("acme/reader")
    assert AutoProcessor.from_pretrained("acme/reader").max_length == 7


def test_backbones_of_a_new_model_load_by_name():
    text_model = AutoModel.from_config(TEXT_CONFIGS["bert"]())
    image_model = AutoModel.from_config(IMAGE_CONFIGS["resnet"]())
    reader = mmbt_processor()
    for part, name in ((text_model, "text"), (image_model, "image")):
        part.push_to_hub(f"acme/{name}")
    reader.tokenizer.push_to_hub("acme/text")
    reader.image_processor.push_to_hub("acme/image")
    model = MMBTForClassification.from_text_image_pretrained("acme/text", "acme/image", num_labels=4)
    assert_same_weights(model.model.text_model, text_model)
    assert_same_weights(model.model.image_model, image_model)
    assert (model.config.cls_token_id, model.config.sep_token_id) == (1, 2)
    processor = MMBTProcessor.from_text_image_pretrained("acme/text", "acme/image")
    assert processor.fingerprint == reader.fingerprint
    assert logits(model, processor(images=PICTURE, text="a red cat")).shape == (1, 4)


def test_another_branch_is_loaded_by_its_name(run_folder):
    model, processor = MMBTForClassification(tiny_config()), mmbt_processor()
    run = run_folder(model, processor)
    push_run(run, "acme/branches")
    with torch.no_grad():
        model.classifier.bias += 1
    model.save_pretrained(run)
    main([str(run), "acme/branches", "--revision", "plus-one"])
    main([str(run), "acme/branches", "--revision", "plus-one"])  # the branch is there now
    loaded = AutoModelForSequenceClassification.from_pretrained("acme/branches", revision="plus-one")
    assert_same_weights(loaded, model)
    first = AutoModelForSequenceClassification.from_pretrained("acme/branches")
    assert torch.equal(first.classifier.bias + 1, model.classifier.bias)


def test_private_is_private_or_nothing_is_uploaded(run_folder):
    run = run_folder(MMBTForClassification(tiny_config()), mmbt_processor())
    main([str(run), "acme/secret", "--dry_run"])
    assert not HfApi().repo_exists("acme/secret")
    main([str(run), "acme/secret"])
    main([str(run), "acme/secret", "--private"])
    assert HfApi().model_info("acme/secret").private
    assert AutoProcessor.from_pretrained("acme/secret").max_length == 512
    HfApi().create_repo("acme/open")
    with pytest.raises(ValueError, match="Expected 'acme/open' to be private, found that it exists and is public"):
        main([str(run), "acme/open"])
    assert HfApi().list_repo_files("acme/open") == []


def test_a_refused_token_is_told_with_the_remedy(run_folder):
    run = run_folder(MMBTForClassification(tiny_config()), mmbt_processor())
    with pytest.raises(PermissionError, match=r"found it refused \(401\). Nothing is lost: .*`hf auth login`.*Run the"):
        push_run(run, "acme/refused", token=EXPIRED_TOKEN)


def test_weights_in_several_files_are_all_uploaded(run_folder):
    processor, model = mmbt_processor(), MMBTForClassification(tiny_config())
    run = run_folder(model, processor)
    (run / "model.safetensors").unlink()
    model.save_pretrained(run, max_shard_size="50KB")
    push_run(run, "acme/sharded")
    assert "model.safetensors.index.json" in HfApi().list_repo_files("acme/sharded")
    assert_same_weights(AutoModelForSequenceClassification.from_pretrained("acme/sharded"), model)


def test_the_trainer_pushes_a_model_that_comes_back(tmp_path):
    from hf_mmtab.training import MMTabTrainer, MMTabTrainingArguments  # the quick tests do without

    processor = mmbt_processor()
    rows = [{**processor.encode_row({"image": PICTURE, "text": "a red cat"}), "labels": i % 3} for i in range(4)]
    model = MMBTForClassification(tiny_config())
    trainer = MMTabTrainer(
        model=model,
        args=MMTabTrainingArguments(
            output_dir=str(tmp_path / "run"),
            max_steps=1,
            per_device_train_batch_size=4,
            report_to="none",
            push_to_hub=True,
            hub_model_id="acme/trained",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=MMBTCollator(processor, num_labels=3),
        processing_class=processor,
        compute_metrics=lambda outputs: {"accuracy": 0.25},
    )
    trainer.train()
    trainer.push_to_hub(commit_message="After training")
    card = ModelCard.load("acme/trained")
    assert 'from_pretrained("acme/trained")' in card.content
    assert "MMBT (Kiela et al. 2019)" in card.content
    assert "Results" not in card.content  # nothing was evaluated yet
    trainer.evaluate()
    trainer.push_to_hub(dataset="animals", license="mit", finetuned_from="acme/start")
    card = ModelCard.load("acme/trained")
    assert card.data.license == "mit" and card.data.base_model == ["acme/start"]
    result = card.data.eval_results[0]
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("accuracy", 0.25, "animals")
    assert str(tmp_path) not in card.content and "unknown" not in card.content
    (tmp_path / "run" / "README.md").write_text("# Mine\n")
    trainer.push_to_hub()
    assert ModelCard.load("acme/trained").text.strip() == "# Mine"  # a person's card stays
    loaded = AutoModelForSequenceClassification.from_pretrained("acme/trained")
    assert_same_weights(loaded, trainer.model)
    assert AutoProcessor.from_pretrained("acme/trained").fingerprint == processor.fingerprint
    assert not any("_feature_cache" in name for name in HfApi().list_repo_files("acme/trained"))


@pytest.mark.parametrize("loader", [AutoConfig, AutoModelForSequenceClassification, AutoProcessor])
def test_a_repository_that_is_missing_is_said_to_be(loader):
    with pytest.raises(OSError, match="nobody/nothing is not a local folder and is not a valid model identifier"):
        loader.from_pretrained("nobody/nothing")
    with pytest.raises(OSError, match="is not a valid model identifier"):
        MMBTForClassification.from_text_image_pretrained("nobody/nothing", "nobody/nothing")


@pytest.mark.parametrize("loader", [AutoConfig, AutoModelForSequenceClassification, AutoProcessor])
def test_a_private_repository_is_missing_without_token(loader):
    with pytest.raises(OSError, match=r"If this is a private repository, make sure to pass a token"):
        loader.from_pretrained("acme/not-yours", token=False)


@pytest.mark.parametrize("loader", [AutoConfig, AutoModelForSequenceClassification, AutoProcessor])
def test_a_gated_repository_is_said_to_be_gated(loader):
    with pytest.raises(OSError, match="You are trying to access a gated repo"):
        loader.from_pretrained("acme/gated")


def test_a_missing_branch_is_named():
    with pytest.raises(OSError, match="nowhere is not a valid git identifier"):
        AutoConfig.from_pretrained("acme/not-yours", revision="nowhere")


CONSUMER = """
import json
import sys
sys.modules["hf_mmtab"] = None  # importing it raises ImportError
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor
answers = {}
for name, inputs in json.loads(sys.argv[1]).items():
    model = AutoModelForSequenceClassification.from_pretrained(name, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
    for part in (model, processor):
        assert type(part).__module__.startswith("transformers_modules."), type(part)
    with torch.no_grad():
        answers[name] = model(**processor(**inputs, return_tensors="pt")).logits.tolist()
assert not any(name.startswith("hf_mmtab.") for name in sys.modules)
sys.stdout.write(json.dumps(answers))
"""


def test_code_travels_to_a_process_without_the_package(tmp_path, monkeypatch):
    carried = [
        (MMBTConfig, "AutoConfig"),
        (MMBTForClassification, "AutoModelForSequenceClassification"),
        (MMBTProcessor, "AutoProcessor"),
        (MMBTImageProcessor, "AutoImageProcessor"),
        (MMBTBaselineConfig, "AutoConfig"),
        (MMBTBaselineForClassification, "AutoModelForSequenceClassification"),
        (TabBertConfig, "AutoConfig"),
        (TabBertLstmForSequenceClassification, "AutoModelForSequenceClassification"),
        (TabBertProcessor, "AutoProcessor"),
    ]
    for part, name in carried:
        flag, off = ("_auto_class", None) if part is MMBTImageProcessor else ("_stands_alone", False)
        monkeypatch.setattr(getattr(part, "config_class", part), flag, off)  # forgotten afterwards
        part.register_for_auto_class(name)
    tokenizer = mmbt_processor().tokenizer
    pictures = MMBTImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    baseline = MMBTBaselineConfig(text_config=TEXT_CONFIGS["bert"](), num_labels=3)
    table_reader, table_config = tabbert()
    PICTURE.save(tmp_path / "picture.png")
    picture_and_text = {"images": str(tmp_path / "picture.png"), "text": "a red cat"}
    uploads = {
        "acme/own-pictures": (
            MMBTForClassification(tiny_config()),
            MMBTProcessor(pictures, tokenizer),
            picture_and_text,
        ),
        "acme/vit-pictures": (MMBTForClassification(tiny_config()), mmbt_processor(), picture_and_text),
        "acme/words": (MMBTBaselineForClassification(baseline), MMBTProcessor(None, tokenizer), {"text": "a red cat"}),
        "acme/rows": (TabBertLstmForSequenceClassification(table_config), table_reader, {"rows": HISTORIES}),
    }
    expected, inputs = {}, {}
    for name, (model, processor, inputs[name]) in uploads.items():
        run = tmp_path / name
        model.save_pretrained(run)
        processor.save_pretrained(run)
        push_run(run, name)
        expected[name] = logits(model, processor(**inputs[name], return_tensors="pt")).tolist()
    done = subprocess.run(
        [sys.executable, "-c", CONSUMER, json.dumps(inputs)],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found = json.loads(done.stdout)
    assert found.keys() == expected.keys()
    for name, values in expected.items():  # sums are rounded otherwise where weights lie otherwise in memory
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)


@pytest.fixture
def put():
    """Upload files to a data set, of an own name for each test."""

    def upload(name: str, files: dict[str, bytes]) -> str:
        api = HfApi()
        api.create_repo(name, repo_type="dataset", exist_ok=True)
        added = [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(name, added, commit_message="Rows", repo_type="dataset").oid

    return upload


def test_a_data_set_on_the_hub_is_prepared_as_one_on_this_machine(put, tmp_path):
    folder, table = tmp_path / "cards", events()
    folder.mkdir()
    for part in range(3):
        pq.write_table(table.slice(part * 101, 101), folder / f"{part}.parquet", row_group_size=40)
    files = {f"data/{file.name}": file.read_bytes() for file in folder.iterdir()}
    beside = {"README.md": b"# Cards", "data/old/0.parquet": b"of a subfolder"}
    commit = put("acme/cards", files | beside)
    put("acme/cards", {"data/1.parquet": b"damaged later"})
    data = arguments(f"hf://datasets/acme/cards@{commit}/data")
    made = prepared(data, tmp_path / "rows", shards=3)

    assert made.facts["rows"] == table.num_rows and len(made.facts["shards"]) == 3
    prepared(arguments(folder), tmp_path / "local", shards=3)
    assert rows_of(tmp_path / "rows")[1].equals(rows_of(tmp_path / "local")[1])
    expect_rows_of_one_machine(data, tmp_path / "rows", tmp_path / "whole")
    prepared(arguments("hf://datasets/acme/cards/data/0.parquet"), tmp_path / "first")
    assert rows_of(tmp_path / "first")[1].num_rows == 101


def test_a_bad_cell_on_the_hub_is_named(put, tmp_path):
    lines = ["who,when,shop,price,bad"] + [f"w{i % 3},2024-01-{i + 1:02},s{i % 4},{i},no" for i in range(20)]
    put("acme/lines", {"0.csv": "\n".join([*lines, "w1,2024-02-01,s1,cheap,no"]).encode()})
    data = "hf://datasets/acme/lines/0.csv"
    with pytest.raises(BadRecordError, match=rf"found 'cheap' \('{data}', line 22, column 'price'\)"):
        prepared(arguments(data), tmp_path / "rows")

    assert prepared(arguments(data, on_bad_record="skip"), tmp_path / "rows").facts["left_out"] == 1


def test_rows_that_were_added_on_the_hub_are_seen_by_the_same_process(put):
    data = "hf://datasets/acme/growing/data"
    put("acme/growing", {"data/0.csv": b"n\n1\n"})
    Table(data)
    before = RemotePath(f"{data}/0.csv").stat()
    put("acme/growing", {"data/0.csv": b"n\n3\n", "data/1.csv": b"n\n2\n"})
    assert len(Table(data).pieces()) == 2
    assert RemotePath(f"{data}/0.csv").stat() != before


@pytest.mark.parametrize("repository", ["acme/nothing", "acme/cards-of-others", "acme/open@gone"])
def test_a_data_set_that_is_hidden_or_absent_tells_of_the_token(put, monkeypatch, repository):
    put("acme/open", {"0.csv": b"n\n1\n"})
    monkeypatch.setenv("HF_TOKEN", EXPIRED_TOKEN)
    url = f"hf://datasets/{repository}/0.csv"
    with pytest.raises(StoreError, match=rf"answers at '{url}', found Re\w+NotFoundError: 40"):
        Table(url)


def test_a_gated_data_set_is_one_sentence():
    url = "hf://datasets/acme/gated-cards/0.csv"
    with pytest.raises(StoreError, match=f"answers at '{url}', found GatedRepoError: .*gated"):
        Table(url)


def test_a_file_that_a_data_set_lacks_is_told(put):
    put("acme/open", {"0.csv": b"n\n1\n"})
    with pytest.raises(FileNotFoundError, match=r"found none at 'hf://datasets/acme/open/1.csv'"):
        Table("hf://datasets/acme/open/1.csv")
