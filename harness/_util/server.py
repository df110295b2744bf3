"""A server that speaks OpenAI's protocol: one request, sent again while it is busy, over in a given time."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from .fetching import OPENER, TooMuch, check_time, within

API_KEY = "OPENAI_API_KEY"
ATTEMPTS = 5
SHORT = 10
"""Seconds that what a server says of an error may take."""
LARGEST = 16 << 20
"""Bytes an answer may have."""
REDIRECTS = frozenset((301, 302, 303, 307, 308))
NOBODY = (ConnectionRefusedError, socket.gaierror)
"""What says that there is no server, or no such host."""
BUSY = frozenset((408, 409, 429, 500, 502, 503, 504))
ENDINGS = ("/chat/completions", "/completions", "/v1")


class NoAnswer(Exception):
    """There is no answer to be had, and why, in a line; `code` is the HTTP status if the server gave one."""

    def __init__(self, said: str, code: int | None = None) -> None:
        super().__init__(said)
        self.code = code


class Server:
    """A server at an address; the key comes from ``OPENAI_API_KEY``.

    Parameters
    ----------
    url
        With or without ``/v1`` and what comes after it.
    flag
        The option that names it, for messages: ``--generator``.
    wait
        Seconds before the first repetition; doubled for each further one.

    Raises
    ------
    UsageError
        If `url` is no address.
    """

    def __init__(self, url: str, flag: str, wait: float = 1.0) -> None:
        _check_address(url, flag)
        base = url.rstrip("/")
        for ending in ENDINGS:
            base = base.removesuffix(ending)
        self.base = base
        self.wait = wait
        self._answered = False  # a server that has never answered is not about to come back

    @property
    def address(self) -> str:
        """Without scheme, account and key."""
        return self.base.partition("://")[2].rpartition("@")[2]

    def ask(self, path: str, body: Mapping[str, Any] | None, timeout: float) -> bytes:
        """What the server answers to a body (None: it is only asked) at ``/v1/<path>``, in at most `timeout` seconds.

        Raises
        ------
        NoAnswer
            It cannot be reached, refuses, or does not come to an end.
        """
        for attempt in range(ATTEMPTS):
            try:
                raw = self._once(path, body, timeout)
                self._answered = True
                return raw
            except _Refused as error:
                self._answered = True
                if error.code in REDIRECTS:
                    raise NoAnswer(
                        f"HTTP {error.code}: the server sends on to another address, which is not followed (it would "
                        "be given the key and the texts); name the address itself",
                        error.code,
                    ) from None
                if error.code not in BUSY or attempt == ATTEMPTS - 1:
                    raise NoAnswer(f"HTTP {error.code} {error.said[:200]}", error.code) from None
                delay = error.delay
            except TooMuch as error:
                raise NoAnswer(str(error)) from None
            except (OSError, http.client.HTTPException) as error:  # URLError, a time-out, a broken answer
                nobody = not self._answered and isinstance(getattr(error, "reason", error), NOBODY)
                if nobody or attempt == ATTEMPTS - 1:
                    raise NoAnswer(hidden(str(getattr(error, "reason", error)))) from None
                delay = None
            time.sleep(self.wait * 2**attempt if delay is None else delay)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, path: str, body: Mapping[str, Any] | None, timeout: float) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := _key():
            headers["Authorization"] = f"Bearer {key}"
        sent = None if body is None else json.dumps(body).encode()
        call = urllib.request.Request(f"{self.base}/v1/{path}", sent, headers)
        with within(timeout):
            try:
                with OPENER.open(call, timeout=timeout) as reply:
                    return _read(reply)
            except urllib.error.HTTPError as error:
                delay = _seconds(error.headers.get("Retry-After"))
                raise _Refused(error.code, _said(error), delay) from None


class _Refused(Exception):
    """An answer that is an error: its status, what the server says of it, and the seconds it asks to wait."""

    def __init__(self, code: int, said: str, delay: float | None) -> None:
        super().__init__(code)
        self.code, self.said, self.delay = code, said, delay


def _check_address(url: str, flag: str) -> None:
    """Refuse what is no address of a server. Raises UsageError, which does not repeat an account's password."""
    try:
        parts = urllib.parse.urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
        right = right and url.isascii() and url.isprintable() and " " not in url
    except ValueError:
        right = False
    if not right:
        raise UsageError(f"{flag} {url.rpartition('@')[2]}: write an address such as http://localhost:8000")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{flag}: leave the account out of the address; a key comes from {API_KEY}")


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
    return hidden(" ".join(raw.decode("utf-8", "replace").split()))


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


def hidden(text: str) -> str:
    """A text without the key."""
    key = os.environ.get(API_KEY, "").strip()
    return text.replace(key, f"<{API_KEY}>") if key else text


def _seconds(header: str | None) -> float | None:
    """A ``Retry-After`` in seconds, at most a minute; None for anything else."""
    try:
        return min(60.0, max(0.0, float(header))) if header else None
    except ValueError:
        return None
