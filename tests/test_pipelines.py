"""`pipeline(...)` of both families: the scores of `predict`, labels as the config decides them, saving."""

import io
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import datasets
import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BertTokenizer,
    ResNetConfig,
    ResNetModel,
    ViTImageProcessor,
    pipeline,
)

from hf_mmtab import MMBTCollator, MMBTForClassification, MMBTProcessor, TabBertConfig, TabBertProcessor
from hf_mmtab.commands import predict
from hf_mmtab.models.mmbt import MMBTBaselineForClassification
from hf_mmtab.models.tabbert import TabBertLstmForSequenceClassification, TabBertPooledForSequenceClassification
from hf_mmtab.pipelines import TABULAR_TASK, ImageTextClassificationPipeline
from hf_mmtab.serving.named_scores import answers

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sea", "land", "a", "the", "old", "new"]
NAMES = {0: "calm", 1: "wild", 2: "dry"}


def assert_same(found: dict, expected: dict) -> None:
    assert found["label"] == expected["label"]
    assert found["score"] == pytest.approx(expected["score"], abs=1e-5)


# ---- Pictures with texts ----


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> tuple[str, str]:
    """Folders of a random BERT with its tokenizer and a random ResNet with its image processor."""
    text, image = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("image")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **sizes)).save_pretrained(text)
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(text)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(image)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(image)
    return str(text), str(image)


def save_mmbt(folder, parts, **settings) -> str:
    torch.manual_seed(1)
    names = {"num_labels": 3, "id2label": NAMES, "label2id": {name: i for i, name in NAMES.items()}}
    model = MMBTForClassification.from_text_image_pretrained(*parts, **names | settings)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "image" not in name:
            torch.nn.init.normal_(weight, std=0.3)  # so that examples differ
    model.save_pretrained(folder)
    MMBTProcessor.from_text_image_pretrained(*parts).save_pretrained(folder)
    return str(folder)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def mmbt(tmp_path_factory, parts) -> str:
    kind = {"problem_type": "single_label_classification", "num_segments": 3}
    return save_mmbt(tmp_path_factory.mktemp("mmbt"), parts, **kind)


EXAMPLES = [
    {"image": picture(0), "text": "the sea"},
    {"image": None, "text": "a new land the old sea"},
    {"image": picture(2), "text": ""},
    {"text": "land"},
    {"image": picture(4), "text": "the old", "text_pair": "new land"},
]


def by_hand(folder: str, examples: list[dict]) -> np.ndarray:
    """Probabilities of examples, one at a time, without the pipeline."""
    model, processor = (MMBTForClassification.from_pretrained(folder).eval(), MMBTProcessor.from_pretrained(folder))
    found = []
    for example in examples:
        row = {"image": example.get("image"), "text": example["text"]}
        if "text_pair" in example:
            row |= {"sentence1": example["text"], "sentence2": example["text_pair"]}
            del row["text"]
        with torch.no_grad():
            logits = model(**MMBTCollator(processor)([processor.encode_row(row)])).logits[0]
        found.append(logits.sigmoid() if model.config.problem_type.startswith("multi") else logits.softmax(-1))
    return torch.stack(found).numpy()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_pictures_and_texts_are_classified_alike_in_batches_of_any_size(mmbt, batch_size):
    classify = pipeline("image-text-classification", model=mmbt, device="cpu")
    expected = by_hand(mmbt, EXAMPLES)
    assert len({tuple(row.round(3)) for row in expected}) == len(EXAMPLES)
    everything = classify(EXAMPLES, batch_size=batch_size, top_k=None)
    for answer, probabilities in zip(everything, expected, strict=True):
        assert [one["score"] for one in answer] == sorted((one["score"] for one in answer), reverse=True)
        assert {one["label"]: one["score"] for one in answer} == pytest.approx(
            {NAMES[i]: p for i, p in enumerate(probabilities)}, abs=1e-5
        )
    best = classify(EXAMPLES, batch_size=batch_size)
    assert [one["label"] for one in best] == [NAMES[int(p.argmax())] for p in expected]
    assert_same(classify(EXAMPLES[0]), best[0])
    assert [len(one) for one in classify(EXAMPLES, top_k=2)] == [2] * len(EXAMPLES)
    assert classify([]) == []
    rows = datasets.Dataset.from_list([{"text": one["text"], "image": None} for one in EXAMPLES])
    without = [one["label"] for one in classify([dict(row) for row in rows])]
    assert [one["label"] for one in classify(rows)] == without == [one["label"] for one in classify(iter(rows))]
    assert [one["label"] for one in classify(one for one in EXAMPLES)] == [one["label"] for one in best]


def test_pictures_come_as_file_bytes_or_address(mmbt, tmp_path):
    picture(0).save(tmp_path / "0.png")
    buffer = io.BytesIO()
    picture(0).save(buffer, format="PNG")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/0.png"
        sources = [picture(0), str(tmp_path / "0.png"), tmp_path / "0.png", buffer.getvalue(), address]
        classify = pipeline("image-text-classification", model=mmbt, device="cpu")
        scores = [classify({"image": source, "text": "sea"})["score"] for source in sources]
        server.shutdown()
    assert scores == pytest.approx([scores[0]] * len(sources))


class Misbehaving(SimpleHTTPRequestHandler):
    """/drip sends a byte at a time without end, /large more than asked for, /inside leads into this machine."""

    def do_GET(self):
        if self.path == "/headers":  # one byte of a header after the other
            self.wfile.write(b"HTTP/1.0 200 OK\r\nx: ")
            for _ in range(100):
                self.wfile.write(b"y")
                self.wfile.flush()
                time.sleep(0.05)
        self.send_response(302 if self.path.startswith("/to") else 404 if self.path == "/none" else 200)
        if self.path.startswith("/to"):
            self.send_header("location", self.path.removeprefix("/to?"))
        self.end_headers()
        try:
            while self.path in ("/drip", "/large"):
                self.wfile.write(b"x" * (1 if self.path == "/drip" else 100_000))
                self.wfile.flush()
                time.sleep(0.05 if self.path == "/drip" else 0)
        except OSError:  # the reader has gone, as it should
            pass

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none", "found HTTP status 404"),
        ("/drip", r"within 0\.5 seconds"),
        ("/headers", r"within 0\.5 seconds"),
        ("/to?http://[::1", "to http or https"),
        ("/large", "at most 1,000,000 bytes"),
        ("/to?/none", "inside of this network"),
        ("/to?http://169.254.169.254/latest", "inside of this network"),
        ("/to?file:///etc/hostname", "to http or https"),
    ],
)
def test_an_address_that_misbehaves_is_left_in_time(mmbt, path, message):
    classify = pipeline("image-text-classification", model=mmbt, device="cpu")
    limits = {"download_seconds": 0.5, "max_download_bytes": 1_000_000}
    with ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}{path}"
        with pytest.raises(ValueError, match=message):
            classify({"image": address, "text": "sea"}, **limits)
        server.shutdown()


def test_a_plain_tokenizer_is_refused_where_it_would_answer_otherwise(mmbt):
    with pytest.raises(ValueError, match='use pipeline\\("image-text-classification"\\)'):
        pipeline("text-classification", model=mmbt, device="cpu")("sea")


def test_of_several_labels_those_over_their_thresholds_are_named(tmp_path, parts):
    folder = save_mmbt(tmp_path, parts, problem_type="multi_label_classification", thresholds=[0.2, 0.999999, 0.5])
    classify = pipeline("image-text-classification", model=folder, device="cpu")
    singles = EXAMPLES[:4]
    for found, probabilities in zip(classify(singles), by_hand(folder, singles), strict=True):
        over = {NAMES[i] for i, cut in enumerate([0.2, 0.999999, 0.5]) if probabilities[i] >= cut}
        assert {one["label"] for one in found} == over
    assert len(classify(EXAMPLES[0], top_k=None)) == 3
    with pytest.raises(ValueError, match="Expected one text, found a pair, but the model was trained on single texts"):
        classify(EXAMPLES[4])


def test_baselines_of_one_input_are_classified(tmp_path, parts):
    for name, inputs in (("bert", {"text": "the sea"}), ("img", {"image": picture(0)})):
        kept = (parts[0] if "text" in inputs else None, parts[1] if "image" in inputs else None)
        model = MMBTBaselineForClassification.from_vision_text_pretrained(*kept[::-1], num_labels=2)
        model.save_pretrained(tmp_path / name)
        alone = {"leading_cls": True, "segment_offset": 0} if name == "bert" else {}
        MMBTProcessor.from_text_image_pretrained(*kept, **alone).save_pretrained(tmp_path / name)
        classify = pipeline("image-text-classification", model=str(tmp_path / name), device="cpu")
        for found in classify([inputs] * 3, batch_size=2):
            assert_same(found, classify(inputs))


def test_a_saved_pipeline_comes_back(mmbt, tmp_path):
    classify = pipeline("image-text-classification", model=mmbt, device="cpu")
    classify.save_pretrained(tmp_path / "saved")
    again = pipeline("image-text-classification", model=str(tmp_path / "saved"), device="cpu")
    assert isinstance(again, ImageTextClassificationPipeline)
    assert again(EXAMPLES) == classify(EXAMPLES)
    assert [file.name for file in (tmp_path / "saved").glob("*.py")] == ["hf_mmtab_classes.py"]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ("the sea", r'Expected a mapping such as \{"image": "fork.png", .*found str'),
        ({"image": None}, "Expected the text under `text` .*, found the keys 'image'. Add it to the mapping"),
        ({}, "Expected the text under `text` .*, found the keys none"),
        ({"image": None, "txt": "sea"}, "Expected the text under `text` .*, found the keys 'image', 'txt'"),
        ({"image": None, "sentence2": "sea"}, "Expected the text under `text` .*, found the keys 'image', 'sentence2'"),
        ({"photo": "a.png", "text": "sea"}, r"Expected the picture under `image` .*found 'photo'"),
        ({"image": "nowhere.png", "text": "sea"}, "Expected a picture file, found nothing at .*nowhere.png"),
        ({"image": None, "text": 7}, "Expected text to be a str, found 7"),
    ],
)
def test_an_input_that_is_no_picture_with_text_is_told(mmbt, example, message):
    with pytest.raises(ValueError, match=message):
        pipeline("image-text-classification", model=mmbt, device="cpu")(example)


def test_a_parameter_that_nothing_reads_is_refused(mmbt):
    with pytest.raises(ValueError, match=r"Unknown parameters \['topk'\]"):
        pipeline("image-text-classification", model=mmbt, device="cpu", topk=3)


# ---- Tables ----

PLAN = {
    "entity": "who",
    "time": "when",
    "label": "odd",
    "fields": {"shop": {}, "when.hour": {"kind": "time_part", "part": "hour"}, "gap": {"kind": "time_gap"}},
}


@pytest.fixture(scope="module")
def payments() -> pl.DataFrame:
    """Three histories of 3, 11 and 20 rows, with pauses of two days."""
    rng = np.random.default_rng(0)
    rows = []
    for who, count in (("ann", 3), ("bob", 11), ("eve", 20)):
        hours = rng.integers(1, 9, count).cumsum() + 48 * (np.arange(count) // 7)
        rows += [(who, int(h), rng.choice(["bakery", "cinema", "garage"]), "no") for h in hours]
    frame = pl.DataFrame(rows, schema=["who", "hours", "shop", "odd"], orient="row")
    start = pl.datetime(2024, 1, 1)
    return frame.with_columns(when=start + pl.duration(hours=pl.col("hours"))).drop("hours")


def save_head(folder, payments, head=TabBertLstmForSequenceClassification, **settings) -> str:
    processor = TabBertProcessor(PLAN).fit(payments)
    sizes = {"field_hidden_size": 8, "field_num_heads": 2, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "seq_len": 4}
    names = {"num_labels": 2, "id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
    kind = {"problem_type": "single_label_classification", "window_label": "last"}
    torch.manual_seed(2)
    model = head(TabBertConfig(**processor.config_kwargs(), **sizes | names | kind | settings))
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


HEADS = [
    {},
    {"threshold": 0.2},
    {"max_gap": 86_400.0},
    {"window_label": "every", "label_level": "row"},
    {"window_label": "every", "label_level": "row", "max_gap": 86_400.0},
    {"head": TabBertPooledForSequenceClassification, "pooling": "mean"},
]


@pytest.mark.parametrize("settings", HEADS)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_row_gets_the_score_of_the_predict_command(payments, tmp_path, settings, batch_size):
    folder = save_head(tmp_path / "model", payments, **settings)
    payments.write_parquet(tmp_path / "table.parquet")
    predict.main([folder, str(tmp_path / "table.parquet"), str(tmp_path / "out.parquet")])
    predicted = pl.read_parquet(tmp_path / "out.parquet").sort("row")
    assert predicted["probability_yes"].n_unique() > 10

    score = pipeline("tabular-sequence-classification", model=folder, device="cpu")
    histories = payments.partition_by("who", maintain_order=True)
    found = score(histories, rows="every", batch_size=batch_size, top_k=None)
    assert [len(one) for one in found] == [3, 11, 20]
    by_label = [{one["label"]: one["score"] for one in row} for history in found for row in history]
    np.testing.assert_allclose([row["yes"] for row in by_label], predicted["probability_yes"], atol=1e-5)
    decided = score(histories, rows="every", batch_size=batch_size)
    assert [row["label"] for history in decided for row in history] == predicted["prediction"].to_list()
    last = score(histories, batch_size=batch_size)
    for answer, history in zip(last, decided, strict=True):
        assert_same(answer, history[-1])


def test_a_history_comes_in_any_kind_of_table(payments, tmp_path):
    score = pipeline("tabular-sequence-classification", model=save_head(tmp_path, payments), device="cpu")
    one = payments.filter(pl.col("who") == "bob")
    texts = [{**row, "when": row["when"].isoformat()} for row in one.to_dicts()]
    kinds = [one, one.to_pandas(), one.to_arrow(), one.to_dict(as_series=False), one.to_dicts(), texts]
    assert [score(rows) for rows in kinds] == [score(one)] * 6
    assert score([texts, texts[:4]]) == [score(one), score(one[:4])]
    with pytest.raises(ValueError, match="Expected times such as 2024-05-01T10:30:00 in column 'when'"):
        score([{**row, "when": "5.1.2024"} for row in texts])


def test_a_regression_gives_the_value_of_each_target(payments, tmp_path):
    names = {"num_labels": 2, "id2label": {0: "heat", 1: "wind"}, "label2id": {"heat": 0, "wind": 1}}
    folder = save_head(
        tmp_path, payments, problem_type="regression", target_mean=[50.0, 9.0], target_std=[1.0, 1.0], **names
    )
    found = pipeline("tabular-sequence-classification", model=folder, device="cpu")(payments[:3])
    assert [one["label"] for one in found] == ["heat", "wind"]
    assert 30 < found[0]["score"] < 70 and -11 < found[1]["score"] < 29


def test_a_model_in_memory_brings_its_processor_or_finds_it_in_its_folder(payments, tmp_path):
    folder = save_head(tmp_path, payments)
    bob = payments.filter(pl.col("who") == "bob")
    model, processor = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        TabBertProcessor.from_pretrained(folder),
    )
    expected = pipeline(TABULAR_TASK, model=folder, device="cpu")(bob)
    for given in ({"processor": processor}, {"processor": folder}, {"feature_extractor": processor}, {}):
        assert pipeline(TABULAR_TASK, model=model, device="cpu", **given)(bob) == expected
    model.config.name_or_path = ""
    with pytest.raises(ValueError, match="Expected the processor that the model was trained with, found none"):
        pipeline(TABULAR_TASK, model=type(model)(model.config), device="cpu")


def test_a_saved_table_pipeline_comes_back(payments, tmp_path):
    score = pipeline("tabular-sequence-classification", model=save_head(tmp_path / "a", payments), device="cpu")
    score.save_pretrained(tmp_path / "b")
    again = pipeline("tabular-sequence-classification", model=str(tmp_path / "b"), device="cpu")
    assert again(payments[:3]) == score(payments[:3])


def test_a_table_that_cannot_be_judged_is_told(payments, tmp_path):
    score = pipeline("tabular-sequence-classification", model=save_head(tmp_path, payments), device="cpu")
    with pytest.raises(ValueError, match=r"Expected the rows of one entity \(who\), found 3 .*partition_by"):
        score(payments)
    with pytest.raises(ValueError, match="Expected a history of at least one row, found a table without rows"):
        score(payments[:0])
    with pytest.raises(ValueError, match=r"found row 1 of the table \(who 'ann'\) before the row above it"):
        score(payments[:3].reverse())
    with pytest.raises(ValueError, match=r"Expected columns \['shop'\]"):
        score(payments[:3].drop("shop"))
    with pytest.raises(ValueError, match='Expected rows to be "last" or "every", found \'all\''):
        score(payments[:3], rows="all")
    other = TabBertProcessor(PLAN).fit(payments[:14])
    with pytest.raises(ValueError, match="Expected the processor with fingerprint"):
        pipeline("tabular-sequence-classification", model=str(tmp_path), feature_extractor=other, device="cpu")


def test_a_pipeline_with_the_wrong_partner_says_which_belongs_there(mmbt, payments, tmp_path):
    folder = save_head(tmp_path, payments)
    head, table = (AutoModelForSequenceClassification.from_pretrained(folder), TabBertProcessor.from_pretrained(folder))
    pictures, reader = MMBTForClassification.from_pretrained(mmbt), MMBTProcessor.from_pretrained(mmbt)
    with pytest.raises(ValueError, match=r"Expected MMBT or one of its baselines, found TabBertLstm"):
        pipeline("image-text-classification", model=head, processor=table, device="cpu")
    with pytest.raises(ValueError, match=r"Expected an MMBTProcessor, found TabBertProcessor"):
        pipeline("image-text-classification", model=pictures, processor=table, device="cpu")
    with pytest.raises(ValueError, match=r"Expected a TabBERT with a head, .*found MMBTForClassification"):
        pipeline(TABULAR_TASK, model=pictures, processor=reader, device="cpu")
    with pytest.raises(ValueError, match=r"Expected a TabBertProcessor, found MMBTProcessor"):
        pipeline(TABULAR_TASK, model=head, processor=reader, device="cpu")


# ---- Labels and scores ----


def test_two_classes_are_decided_at_the_threshold():
    config = TabBertConfig(id2label={0: "no", 1: "yes"}, threshold=0.1, problem_type="single_label_classification")
    logits = np.log(np.float32([0.8, 0.2]))
    assert answers(logits, config, "decided") == {"label": "yes", "score": pytest.approx(0.2)}
    assert [one["label"] for one in answers(logits, config, None)] == ["no", "yes"]
    config.threshold = None
    assert answers(logits, config, "decided")["label"] == "no"
