"""`serve` over a real socket: answers, limits, errors, and many clients at once."""

import base64
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import uvicorn
from exported_models import HISTORY
from PIL import Image

from hf_mmtab.commands import serve
from hf_mmtab.serving import Predictor
from hf_mmtab.serving.app import Limits, make_app

pytestmark = pytest.mark.slow


@contextmanager
def running(predictor: Predictor, **limits: int) -> Iterator[int]:
    """Serve on a free port of loopback; yields the port."""
    config = uvicorn.Config(make_app(predictor, Limits(**limits)), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def ask(port: int, body: object, path: str = "/predict") -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    data = body if isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body).encode()
    connection.request("POST", path, data, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.fixture(scope="module")
def pairs(exported) -> Predictor:
    return Predictor(exported("pairs") / "out")


@pytest.fixture(scope="module")
def histories(exported) -> Predictor:
    return Predictor(exported("table") / "out")


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def test_one_and_many_are_answered_as_by_the_predictor(pairs):
    examples = [{"image": picture(n), "text": "the old sea"} for n in range(3)] + [{"image": None, "text": "new"}]
    sent = [{**e, "image": e["image"] and base64.b64encode(e["image"]).decode()} for e in examples]
    with running(pairs) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read()) == {"status": "ok", "waiting": 0}
        status, one = ask(port, {"input": sent[0]})
        assert (status, one["output"]["label"]) == (200, pairs(examples[0])["label"])
        status, several = ask(port, {"inputs": sent, "top_k": None})
    assert status == 200
    for found, expected in zip(several["outputs"], pairs.many(examples, top_k=None), strict=True):
        assert [one["label"] for one in found] == [one["label"] for one in expected]
        assert [one["score"] for one in found] == pytest.approx([one["score"] for one in expected], abs=1e-5)


def test_histories_are_answered_and_bounded(histories):
    with running(histories, max_rows=60, max_inputs=3) as port:
        status, answer = ask(port, {"input": HISTORY, "rows": "every", "top_k": 1})
        assert status == 200
        assert len(answer["output"]) == len(HISTORY)
        assert ask(port, {"inputs": [HISTORY, HISTORY]}) == (
            413,
            {"detail": "Expected at most 60 rows, found 80. Send shorter histories."},
        )
        assert ask(port, {"inputs": [HISTORY[:1]] * 4})[0] == 413
        status, answer = ask(port, {"input": [{"who": 1}]})
        assert status == 422
        assert "Expected columns" in answer["detail"]
        assert ask(port, {"input": [{**HISTORY[0], "when": "yesterday"}]})[0] == 422
        assert ask(port, {"input": HISTORY, "rows": ["last"]})[0] == 422
        assert ask(port, {"input": {"amount": [1.0]}})[0] == 422


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Expected JSON"),
        (b"\xff\xfe", "Expected JSON"),
        (b"[" * 100_000, "Expected JSON"),
        ([1], "Expected an object"),
        ({"input": {"text": "a"}, "path": "x"}, "Expected an object"),
        (b'{"input": {"text": NaN}}', "the number NaN, which JSON has not"),
        (b'{"input": {"text": 1e400}}', "the number 1e400, which JSON has not"),
        ({"inputs": []}, "Expected a list of at least one input"),
        ({"input": {"text": "a", "file": "x"}}, "Expected an object with image"),
        ({"input": {"text": "a"}, "top_k": 0}, "Expected top_k"),
        ({"input": {"text": "a"}, "top_k": -1}, "Expected top_k"),
        ({"input": {"text": "a"}, "top_k": True}, "Expected top_k"),
        ({"input": {"text": "a"}, "top_k": [1]}, "Expected top_k"),
        ({"input": {"text": 7}}, "Expected text to be a str"),
        ({"input": {"text": "\ud800"}}, "Expected text that UTF-8 can hold"),
        ({"input": {"text": 2**64}}, "numbers of 64 bits, found 18446744073709551616 in 'text'"),
        ({"input": {"image": None}}, "Expected the text under `text`"),
        ({"input": {"text": "a", "image": "/etc/hostname"}}, "as base64"),
        ({"input": {"text": "a", "image": {"path": "/etc/hostname"}}}, "as base64"),
        ({"input": {"text": "a", "image": "file"}}, "Expected a picture that Pillow can read, found 3 bytes"),
        ({"input": {"text": "a", "image": ""}}, "Expected the bytes of a picture"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_the_client_and_no_file_is_opened(pairs, body, said):
    with running(pairs) as port:
        status, answer = ask(port, body)
        assert (status, said in answer["detail"]) == (422, True), answer
        assert ask(port, {"input": {"text": "the sea"}})[0] == 200


def test_a_long_body_is_refused_whether_it_says_its_length_or_not(pairs):
    with running(pairs, max_bytes=1000) as port:
        assert ask(port, b" " * 1001)[0] == 413
        assert ask(port, iter([b" " * 600] * 2))[0] == 413
        assert ask(port, {"input": {"text": "the sea"}})[0] == 200


def test_concurrent_requests_share_batches_and_keep_their_answers(pairs, monkeypatch):
    sizes = []
    compute = pairs.logits

    def counted(batch):
        sizes.append(len(batch["input_ids"]))
        time.sleep(0.05)
        return compute(batch)

    monkeypatch.setattr(pairs, "logits", counted)
    words = ["sea", "land", "old", "new", "the sea of the land", "a"]
    expected = {text: compute(pairs.batch([pairs.encoder({"text": text})]))[0] for text in words}
    texts = words * 20
    with running(pairs, batch_size=16) as port, ThreadPoolExecutor(24) as clients:
        found = list(clients.map(lambda text: ask(port, {"input": {"text": text}, "top_k": 1}), texts))
    assert sum(sizes) == len(texts)
    assert len(sizes) < len(texts) / 2
    assert max(sizes) <= 16
    for text, (status, answer) in zip(texts, found, strict=True):
        assert status == 200
        assert answer["output"][0]["label"] == pairs.config.id2label[int(expected[text].argmax())]


def test_when_too_many_wait_the_answer_is_503(pairs, monkeypatch):
    compute, go_on = pairs.logits, threading.Event()
    monkeypatch.setattr(pairs, "logits", lambda batch: go_on.wait(60) and compute(batch))
    with running(pairs, max_waiting=2, batch_size=1) as port, ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(ask, port, {"input": {"text": "sea"}}) for _ in range(8)]
        while sum(one.done() for one in asked) < 4:
            time.sleep(0.02)
        go_on.set()
        statuses = sorted(one.result()[0] for one in asked)
    assert set(statuses) == {200, 503}


def test_a_folder_without_an_export_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        serve.main([str(tmp_path)])
    assert "Expected an export in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--port", "99999"], ["--batch_size", "0"], ["--max_waiting", "-1"], ["--threads", "-3"]]
)
def test_limits_that_no_service_could_keep_are_refused(options, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        serve.main([str(tmp_path), *options])
    assert ended.value.code == 2 and "expected a whole number from" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_in_a_sentence(exported, pairs, capsys):
    with running(pairs) as port, pytest.raises(SystemExit) as ended:
        serve.main([str(exported("pairs") / "out"), "--port", str(port)])
    assert ended.value.code == 1 and f"Expected a free port at 127.0.0.1:{port}, found" in capsys.readouterr().err
