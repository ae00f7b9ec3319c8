"""`demo`: the page answers as the pipeline does, and in a real browser, where gradio and one are installed."""

import shutil
import subprocess
import sys

import polars
import pytest
import torch
from transformers import pipeline

from hf_mmtab import TabBertConfig, TabBertProcessor
from hf_mmtab.demo import make_demo
from hf_mmtab.models.tabbert import TabBertPooledForSequenceClassification

pytest.importorskip("gradio", reason="the extra `demo` is not installed")
pytest.importorskip("captum")

PLAN = {"entity": "who", "time": "at", "fields": {"amount": {"kind": "numeric", "num_bins": 4}, "shop": {}}}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rows = 24
    frame = polars.DataFrame(
        {
            "who": [f"w{i % 2}" for i in range(rows)],
            "at": [f"2024-01-01 {i:02d}:00" for i in range(rows)],
            "amount": [float(i % 7) for i in range(rows)],
            "shop": ["bakery" if i % 3 else "cinema" for i in range(rows)],
        }
    )
    path = tmp_path_factory.mktemp("demo") / "t.csv"
    frame.write_csv(path)
    return path


@pytest.fixture(scope="module")
def model(table):
    folder = table.parent / "model"
    processor = TabBertProcessor(PLAN).fit(polars.read_csv(table, try_parse_dates=True))
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    torch.manual_seed(0)
    config = TabBertConfig(**processor.config_kwargs(), **sizes, field_hidden_size=8, field_num_heads=2, seq_len=8)
    config.problem_type = "single_label_classification"
    TabBertPooledForSequenceClassification(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def test_the_page_answers_as_the_pipeline_with_and_without_a_row(model, table):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    page = make_demo(model, examples=str(table))
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_port=None)
    try:
        client = Client(address, verbose=False)
        history = polars.read_csv(table, try_parse_dates=True).filter(polars.col("who") == "w1").tail(6)
        score = pipeline("tabular-sequence-classification", model=model)
        columns = ["who", "at", "amount", "shop"]
        given = {
            "headers": columns, "metadata": None,
            "data": [[str(row[name]) if name == "at" else row[name] for name in columns] for row in history.to_dicts()],
        }  # fmt: skip
        for without in (0, 2):
            label, reasons, told = client.predict(given, without, api_name="/judge")
            kept = [i for i in range(6) if i + 1 != without]
            expected = score(history[kept], top_k=None)
            found = {one["label"]: one["confidence"] for one in label["confidences"]}
            for one in expected:
                assert found[one["label"]] == pytest.approx(one["score"], abs=1e-5)
            assert told.startswith("log odds of ") and len(reasons["data"]) == 8
        for without in (99, -1):
            with pytest.raises(AppError, match=f"Expected a row from 1 to 6, or 0 for all of them, found {without}"):
                client.predict(given, without, api_name="/judge")
    finally:
        page.close()


def test_what_is_wrong_with_an_input_is_said_on_the_page(model, table):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    page = make_demo(model)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    try:
        empty = {"headers": ["who", "amount"], "data": [], "metadata": None}
        with pytest.raises(AppError, match="Expected a history of at least one row, found a table without rows"):
            Client(address, verbose=False).predict(empty, 0, api_name="/judge")
    finally:
        page.close()


@pytest.mark.slow
def test_a_browser_shows_the_page(model, table, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = make_demo(model, examples=str(table))
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=8000",
    ]
    try:
        command = [browser, *flags, f"--user-data-dir={tmp_path}", "--dump-dom", address]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=90).stdout
    finally:
        page.close()
    assert "Judge the last row" in shown and "Prediction" in shown and "History" in shown


def test_without_gradio_the_command_says_how_to_install_it(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "hf-mmtab\[demo\]"'):
        make_demo(model)
