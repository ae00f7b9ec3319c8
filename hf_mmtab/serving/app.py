"""The application of `hf-mmtab serve`: `/predict` and `/health` over an exported model."""

import asyncio
import base64
import binascii
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request

from .inputs import Inputs
from .named_scores import DECIDED, check_top_k
from .predictor import Predictor

KEYS = {"input", "inputs", "rows", "top_k"}  # of a request
PAIR_KEYS = {"image", "text", "text_pair"}  # of an input with a picture


@dataclass(frozen=True)
class Limits:
    """What a request may ask for, and how many examples are computed at once."""

    max_bytes: int = 20_000_000  # of a request's body
    max_inputs: int = 64  # examples of a request
    max_rows: int = 10_000  # table rows of a request
    max_waiting: int = 1_000  # windows, or pairs, that wait; beyond that the answer is 503
    batch_size: int = 32


class Batcher:
    """Computes what concurrent requests ask for in common batches: whatever came while the batch before ran."""

    def __init__(self, predictor: Predictor, batch_size: int) -> None:
        self.predictor, self.batch_size = predictor, batch_size
        self.waiting: asyncio.Queue[tuple[Inputs, asyncio.Future]] = asyncio.Queue()

    async def logits(self, encoded: Sequence[Inputs]) -> list[np.ndarray]:
        """Return the logits of each item once its batch is computed."""
        futures = [asyncio.get_running_loop().create_future() for _ in encoded]
        for pair in zip(encoded, futures, strict=True):
            self.waiting.put_nowait(pair)
        return await asyncio.gather(*futures)

    async def run(self) -> None:
        """Compute batches for ever; an error goes to the requests of its batch."""
        while True:
            batch = [await self.waiting.get()]
            while len(batch) < self.batch_size and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            try:
                stacked = self.predictor.batch([inputs for inputs, _ in batch])
                found: Any = await asyncio.to_thread(self.predictor.logits, stacked)
            except Exception as error:
                found = [error] * len(batch)
            for (_, future), one in zip(batch, found, strict=True):
                if future.done():  # its client has gone
                    continue
                (future.set_exception if isinstance(one, Exception) else future.set_result)(one)


def make_app(predictor: Predictor, limits: Limits | None = None) -> FastAPI:
    """Return the application: `POST /predict` for one example or many, `GET /health`.

    A request is `{"input": X}` or `{"inputs": [X, …]}`, with `top_k` and, for tables, `rows` as the pipeline takes
    them. X is `{"image": BASE64 or null, "text": …}`, or the rows of one entity as a list of objects. Pictures come as
    bytes alone: no path or address in a request is ever opened. The answer is `{"output": …}` or `{"outputs": […]}`.
    Status: 413 for too much, 422 for what cannot be read, 503 when too many wait.
    """
    limits = limits or Limits()
    batcher = Batcher(predictor, limits.batch_size)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    # The pages of the API's documentation would load scripts from the network.
    app = FastAPI(title="hf_mmtab", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting": batcher.waiting.qsize()}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        asked = parse(await read_body(request, limits.max_bytes), predictor.reads_tables, limits)
        rows, top_k = asked["rows"], asked["top_k"]
        try:
            prepared = [await asyncio.to_thread(predictor.prepare, one, rows) for one in asked["inputs"]]
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise HTTPException(422, str(error)) from error
        encoded = [inputs for one in prepared for inputs, _ in one]
        if batcher.waiting.qsize() + len(encoded) > max(limits.max_waiting, len(encoded)):
            raise HTTPException(503, f"Expected at most {limits.max_waiting} waiting inputs. Try again later.")
        logits = await batcher.logits(encoded)
        outputs = predictor.answers(logits, prepared, rows, top_k)
        return {"outputs": outputs} if asked["several"] else {"output": outputs[0]}

    return app


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: 413 as soon as it is longer than `max_bytes`, whatever its header says.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise HTTPException(413, f"Expected at most {max_bytes:,} bytes, found more. Send fewer or smaller inputs.")
    return bytes(body)


def parse(body: bytes, reads_tables: bool, limits: Limits) -> dict[str, Any]:
    """Return the `inputs` of a request, whether it has `several`, `rows` and `top_k`.

    Raises:
        HTTPException: 422 for what is no request, 413 for too many inputs or rows.
    """
    try:
        asked = json.loads(body, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"Expected JSON, found {error}.") from error
    if not isinstance(asked, dict) or ("input" in asked) == ("inputs" in asked) or set(asked) - KEYS:
        found = sorted(asked) if isinstance(asked, dict) else type(asked).__name__
        raise HTTPException(
            422, f'Expected an object with "input" or "inputs", and "rows" or "top_k" if need be, found {found}.'
        )
    several = "inputs" in asked
    inputs = asked["inputs"] if several else [asked["input"]]
    if not isinstance(inputs, list) or not inputs:
        raise HTTPException(422, f"Expected a list of at least one input, found {inputs!s:.40}.")
    if len(inputs) > limits.max_inputs:
        raise HTTPException(
            413, f"Expected at most {limits.max_inputs} inputs, found {len(inputs)}. Send several requests."
        )
    top_k = asked.get("top_k", DECIDED)
    try:
        check_top_k(top_k)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    inputs = [table_input(one) if reads_tables else pair_input(one) for one in inputs]
    if reads_tables and (rows := sum(map(len, inputs))) > limits.max_rows:
        raise HTTPException(413, f"Expected at most {limits.max_rows:,} rows, found {rows:,}. Send shorter histories.")
    return {"inputs": inputs, "several": several, "rows": asked.get("rows", "last"), "top_k": top_k}


def _no_number(text: str) -> float:
    raise ValueError(f"the number {text}, which JSON has not; null stands for a missing one")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def table_input(given: Any) -> list[dict[str, Any]]:
    """Return a history of a request: a list of rows.

    Raises:
        HTTPException: 422 for anything else.
    """
    if not isinstance(given, list) or not given or not all(isinstance(row, dict) for row in given):
        raise HTTPException(
            422, "Expected a history as a list of rows, the oldest first, each an object from column to value."
        )
    for name, value in (cell for row in given for cell in row.items()):
        _check_value(name, value)
    columns: dict[str, None] = dict.fromkeys(name for row in given for name in row)
    return [{name: row.get(name) for name in columns} for row in given]


def _check_value(name: str, value: Any) -> None:
    """Refuse what JSON can hold and neither a table nor a text: whole numbers beyond 64 bits, halves of characters.

    Raises:
        HTTPException: 422.
    """
    try:
        f"{name}{value}".encode()
        fits = not isinstance(value, int) or value.bit_length() < 64
    except ValueError:
        fits = False
    if not fits:
        raise HTTPException(
            422, f"Expected text that UTF-8 can hold and numbers of 64 bits, found {value!r:.40} in {name!r:.40}."
        )


def pair_input(given: Any) -> dict[str, Any]:
    """Return a picture with its text from a request; the picture's base64 becomes bytes, never a path.

    Raises:
        HTTPException: 422 for anything else.
    """
    if not isinstance(given, dict) or set(given) - PAIR_KEYS:
        found = sorted(given) if isinstance(given, dict) else type(given).__name__
        raise HTTPException(422, f"Expected an object with {', '.join(sorted(PAIR_KEYS))}, found {found}.")
    for name in given.keys() - {"image"}:
        _check_value(name, given[name])
    image = given.get("image")
    try:
        decoded = None if image is None else base64.b64decode(image, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise HTTPException(422, f"Expected the bytes of a picture as base64, found {error}.") from error
    if decoded == b"":
        raise HTTPException(422, "Expected the bytes of a picture as base64 (null for no picture), found none.")
    return {**given, "image": decoded}
