"""An endpoint that speaks OpenAI's chat protocol, as a generator of synthetic data."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..contracts.recipe import Answer, Request
from ..errors import HarnessError, UsageError
from .fetching import OPENER, TooMuch, check_time, within
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
NOBODY = (ConnectionRefusedError, socket.gaierror)
"""What says that there is no server, or no such host."""
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
        _check_address(url)
        base = url.rstrip("/").removesuffix("/chat/completions").removesuffix("/v1")
        self.url = f"{base}/v1/chat/completions"
        self.name = model
        self.batch_size = batch_size
        self.window: int | None = None
        self.wait = wait
        self._top_k = True
        self._answered = False  # a server that has never answered is not about to come back
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
            except _Refused as error:
                self._answered = True
                if error.code in REDIRECTS:
                    raise self._failure(
                        f"HTTP {error.code}: the server sends on to another address, which is not followed (it would "
                        "be given the key and the texts); name the address itself"
                    ) from None
                if error.code in (400, 422) and "top_k" in error.said and self._top_k:
                    with self._lock:
                        self._top_k = False
                    return self._ask(request, seed)
                if error.code not in BUSY or attempt == ATTEMPTS - 1:
                    raise self._failure(f"HTTP {error.code} {error.said[:200]}") from None
                delay = error.delay
            except TooMuch as error:
                raise self._failure(str(error)) from None
            except (OSError, http.client.HTTPException) as error:  # URLError, a time-out, a broken answer
                nobody = not self._answered and isinstance(getattr(error, "reason", error), NOBODY)
                if nobody or attempt == ATTEMPTS - 1:
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
        if key := _key():
            headers["Authorization"] = f"Bearer {key}"
        call = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with within(TIMEOUT):
            try:
                with OPENER.open(call, timeout=TIMEOUT) as reply:
                    return _read(reply)
            except urllib.error.HTTPError as error:
                delay = _seconds(error.headers.get("Retry-After"))
                raise _Refused(error.code, _said(error), delay) from None

    def _answer(self, raw: bytes) -> Answer:
        self._answered = True
        try:
            reply = json.loads(raw)
            choice = reply["choices"][0]
            text = choice["message"]["content"]
            text = _hidden("" if text is None else text)  # AttributeError for what is no text
            text.encode()  # half a character cannot be written down
            tokens = int((reply.get("usage") or {}).get("completion_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
            raise self._failure("its answer is no chat completion") from None
        return Answer(text, choice.get("finish_reason") != "length", tokens)

    def _failure(self, reason: str) -> HarnessError:
        return HarnessError(
            f"--generator {self.facts()['address']}: {reason}; finished items are kept, the same command resumes"
        )


class _Refused(Exception):
    """An answer that is an error: its status, what the server says of it, and the seconds it asks to wait."""

    def __init__(self, code: int, said: str, delay: float | None) -> None:
        super().__init__(code)
        self.code, self.said, self.delay = code, said, delay


def _check_address(url: str) -> None:
    """Refuse what is no address of a server. Raises UsageError, which does not repeat an account's password."""
    try:
        parts = urllib.parse.urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
        right = right and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        right = False
    if not right:
        raise UsageError(
            f"--generator {url.rpartition('@')[2]}: write an address such as http://localhost:8000"
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"--generator: leave the account out of the address; a key comes from {API_KEY}")


def _key() -> str | None:
    """The key, if there is one. Raises UsageError, without the key, for one that no header can carry."""
    key = os.environ.get(API_KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"{API_KEY} holds characters that a request cannot carry; set it again")
    return key or None


def _said(error: urllib.error.HTTPError) -> str:
    """What the server says of an error, in a line, the key left out should it repeat it."""
    try:
        with within(SHORT):
            raw = _read(error, 64 << 10)
    except (OSError, http.client.HTTPException, TooMuch):
        return ""
    return _hidden(" ".join(raw.decode("utf-8", "replace").split()))


def _read(reply: Any, most: int = LARGEST) -> bytes:
    """All of an answer, but no more than `most` bytes. Raises TooMuch for a longer one."""
    parts, size = [], 0
    while part := reply.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            raise TooMuch(f"its answer is longer than {most >> 10:,} KiB")
        check_time()
    return b"".join(parts)


def _hidden(text: str) -> str:
    """A text without the key."""
    key = os.environ.get(API_KEY, "").strip()
    return text.replace(key, f"<{API_KEY}>") if key else text


def _seconds(header: str | None) -> float | None:
    """A ``Retry-After`` in seconds, at most a minute; None for anything else."""
    try:
        return min(60.0, max(0.0, float(header))) if header else None
    except ValueError:
        return None
