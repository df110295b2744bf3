"""An endpoint that speaks OpenAI's chat protocol, as a generator of synthetic data."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .._util.server import NoAnswer, Server, hidden
from ..contracts.recipe import Answer, Request
from ..errors import HarnessError
from .generators import draw_seed

TIMEOUT = 300
"""Seconds that one answer may take, from the first byte sent to the last one read."""


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
        self.server = Server(url, "--generator", wait)
        self.name = model
        self.batch_size = batch_size
        self.window: int | None = None
        self._top_k = True
        self._lock = threading.Lock()

    def facts(self) -> dict[str, Any]:
        """Address (without key or account) and model's name: what answered cannot be known any better."""
        address = f"{self.server.address}/v1/chat/completions"
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
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": "user", "content": request.prompt}],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": draw_seed(seed, request.key) >> 32,  # servers take 32 bits, some signed ones
        }
        if self._top_k:
            body["top_k"] = request.top_k
        try:
            return self._answer(self.server.ask("chat/completions", body, TIMEOUT))
        except NoAnswer as error:
            if error.code in (400, 422) and "top_k" in str(error) and "top_k" in body:
                with self._lock:
                    self._top_k = False
                return self._ask(request, seed)
            raise self._failure(str(error)) from None

    def _answer(self, raw: bytes) -> Answer:
        try:
            reply = json.loads(raw)
            choice = reply["choices"][0]
            text = choice["message"]["content"]
            text = hidden("" if text is None else text)  # AttributeError for what is no text
            text.encode()  # half a character cannot be written down
            tokens = int((reply.get("usage") or {}).get("completion_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
            raise self._failure("its answer is no chat completion") from None
        return Answer(text, choice.get("finish_reason") != "length", tokens)

    def _failure(self, reason: str) -> HarnessError:
        return HarnessError(
            f"--generator {self.facts()['address']}: {reason}; finished items are kept, the same command resumes"
        )
