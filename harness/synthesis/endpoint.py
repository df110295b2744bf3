"""An endpoint that speaks OpenAI's chat protocol, as a generator of synthetic data."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..contracts.recipe import Answer, Request
from ..errors import HarnessError, UsageError
from .generators import draw_seed

API_KEY = "OPENAI_API_KEY"
ATTEMPTS = 5
TIMEOUT = 300
"""Seconds that one answer may take."""
BUSY = frozenset((408, 409, 429, 500, 502, 503, 504))


class EndpointGenerator:
    """``<url>/v1/chat/completions``; requests of a batch are sent at the same time.

    Answers repeat only as far as the server honours ``seed``. ``top_k`` is no part of OpenAI's own protocol:
    it is sent until the server refuses it, and the card says so. The key comes from ``OPENAI_API_KEY``.

    Parameters
    ----------
    url
        With or without ``/v1`` and ``/chat/completions`` at its end.
    model
        Name that the server knows the model by.
    batch_size
        Requests under way together.
    wait
        Seconds before the first repetition; doubled for each further one.
    """

    def __init__(self, url: str, model: str, batch_size: int, wait: float = 1.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"--generator {url}: write an address such as http://localhost:8000")
        base = url.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
        self.url = f"{base}/v1/chat/completions"
        self.name = model
        self.batch_size = batch_size
        self.window: int | None = None
        self.wait = wait
        self._top_k = True
        self._lock = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """Address (without key or account) and model's name: what answered cannot be known any better."""
        address = self.url.partition("://")[2].rpartition("@")[2]
        return {"kind": "endpoint", "address": address, "model": self.name, "batch_size": self.batch_size}

    def speed(self) -> float | None:
        """None: measuring it would cost money."""
        return None

    def generate(self, requests: Sequence[Request], seed: int) -> list[Answer]:
        """Answer all requests, in their order.

        Raises
        ------
        HarnessError
            One line: the server cannot be reached, refuses, or answers in another form. What was finished
            before is kept in the pool.
        """
        with ThreadPoolExecutor(max_workers=max(1, self.batch_size)) as workers:
            return list(workers.map(lambda request: self._ask(request, seed), requests))

    def _ask(self, request: Request, seed: int) -> Answer:
        for attempt in range(ATTEMPTS):
            try:
                return self._answer(self._post(request, seed))
            except urllib.error.HTTPError as error:
                said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:200]
                if error.code == 400 and "top_k" in said and self._top_k:
                    with self._lock:
                        self._top_k = False
                    return self._ask(request, seed)
                if error.code not in BUSY or attempt == ATTEMPTS - 1:
                    raise self._failure(f"HTTP {error.code} {said}") from None
                delay = _seconds(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:  # URLError, a time-out, a broken answer
                if attempt == ATTEMPTS - 1:
                    raise self._failure(str(getattr(error, "reason", error))) from None
                delay = None
            time.sleep(self.wait * 2**attempt if delay is None else delay)
        raise AssertionError("the last attempt returns or raises")

    def _post(self, request: Request, seed: int) -> bytes:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": "user", "content": request.prompt}],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": draw_seed(seed, request.key) >> 32,  # servers take 32 bits, some signed ones
        }
        if self._top_k:
            body["top_k"] = request.top_k
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(API_KEY):
            headers["Authorization"] = f"Bearer {key}"
        call = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(call, timeout=TIMEOUT) as reply:
            return bytes(reply.read())

    def _answer(self, raw: bytes) -> Answer:
        try:
            reply = json.loads(raw)
            choice = reply["choices"][0]
            text = str(choice["message"]["content"] or "")
            tokens = int((reply.get("usage") or {}).get("completion_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise self._failure("its answer is no chat completion") from None
        return Answer(text, choice.get("finish_reason") != "length", tokens)

    def _failure(self, reason: str) -> HarnessError:
        return HarnessError(
            f"--generator {self.facts()['address']}: {reason}; finished items are kept, the same command resumes"
        )


def _seconds(header: str | None) -> float | None:
    """A ``Retry-After`` in seconds, at most a minute; None for anything else."""
    try:
        return min(60.0, max(0.0, float(header))) if header else None
    except ValueError:
        return None
