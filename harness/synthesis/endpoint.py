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
"""Seconds that one answer may take, from the first byte sent to the last one read."""
SHORT = 10
"""Seconds that what a server says of an error may take."""
LARGEST = 16 << 20
"""Bytes an answer may have."""
REDIRECTS = frozenset((301, 302, 303, 307, 308))
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
                said = self._said(error)
                if error.code in REDIRECTS:
                    raise self._failure(
                        f"HTTP {error.code}: the server sends on to another address, which is not followed (it would "
                        "be given the key and the texts); name the address itself"
                    ) from None
                if error.code == 400 and "top_k" in said and self._top_k:
                    with self._lock:
                        self._top_k = False
                    return self._ask(request, seed)
                if error.code not in BUSY or attempt == ATTEMPTS - 1:
                    raise self._failure(f"HTTP {error.code} {said[:200]}") from None
                delay = _seconds(error.headers.get("Retry-After"))
            except _TooMuch as error:
                raise self._failure(str(error)) from None
            except (OSError, http.client.HTTPException) as error:  # URLError, a time-out, a broken answer
                if attempt == ATTEMPTS - 1:
                    raise self._failure(_hidden(str(getattr(error, "reason", error)))) from None
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
        until = time.monotonic() + TIMEOUT
        with _OPENER.open(call, timeout=TIMEOUT) as reply:
            return _read(reply, until)

    def _said(self, error: urllib.error.HTTPError) -> str:
        """What the server says of an error, in a line, the key left out should it repeat it."""
        try:
            raw = _read(error, time.monotonic() + SHORT, 64 << 10)
        except (OSError, http.client.HTTPException, _TooMuch):
            return ""
        return _hidden(" ".join(raw.decode("utf-8", "replace").split()))

    def _answer(self, raw: bytes) -> Answer:
        try:
            reply = json.loads(raw)
            choice = reply["choices"][0]
            text = str(choice["message"]["content"] or "")
            text.encode()  # half a character cannot be written down
            tokens = int((reply.get("usage") or {}).get("completion_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
            raise self._failure("its answer is no chat completion") from None
        return Answer(text, choice.get("finish_reason") != "length", tokens)

    def _failure(self, reason: str) -> HarnessError:
        return HarnessError(
            f"--generator {self.facts()['address']}: {reason}; finished items are kept, the same command resumes"
        )


class _TooMuch(Exception):
    """An answer that does not end."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: what is sent, the key above all, is for the address that was named."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _read(reply: Any, until: float, most: int = LARGEST) -> bytes:
    """All of an answer, however slowly it comes, but not after `until`, and no more than `most` bytes."""
    parts, size = [], 0
    while part := reply.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            raise _TooMuch(f"its answer is longer than {most >> 10:,} KiB")
        if time.monotonic() > until:
            raise _TooMuch(f"its answer took longer than {TIMEOUT} seconds")
    return b"".join(parts)


def _hidden(text: str) -> str:
    """A text without the key."""
    key = os.environ.get(API_KEY)
    return text.replace(key, f"<{API_KEY}>") if key else text


def _seconds(header: str | None) -> float | None:
    """A ``Retry-After`` in seconds, at most a minute; None for anything else."""
    try:
        return min(60.0, max(0.0, float(header))) if header else None
    except ValueError:
        return None
