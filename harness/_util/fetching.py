"""Requests that end: one limit for a whole answer, from the connection to its last byte, and no redirect followed."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any


class TooMuch(Exception):
    """An answer that does not end."""


class _Limit:
    """When an answer must be there, and the connections that end then."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.until = seconds, time.monotonic() + seconds
        self.sockets: list[socket.socket] = []

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until

    def end(self) -> None:
        """Let go of what waits: a server that sends a byte now and then keeps every single wait short."""
        for connection in self.sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


_limit: ContextVar[_Limit | None] = ContextVar("limit", default=None)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Requests of the block are over after so many seconds, whatever the server does. Raises TooMuch then.

    Within another such block the sockets of that one are ended as well.
    """
    limit, outer = _Limit(seconds), _limit.get()
    if outer is not None:
        limit.sockets = outer.sockets
    timer = threading.Timer(seconds, limit.end)
    timer.daemon = True
    token = _limit.set(limit)
    timer.start()
    try:
        yield
    except Exception as error:
        if limit.over and not isinstance(error, TooMuch):
            raise _late(limit) from None
        raise
    finally:
        timer.cancel()
        _limit.reset(token)
    if limit.over:
        raise _late(limit)


def check_time() -> None:
    """Raise TooMuch if the block's time is over."""
    limit = _limit.get()
    if limit is not None and limit.over:
        raise _late(limit)


def _late(limit: _Limit) -> TooMuch:
    return TooMuch(f"its answer took longer than {limit.seconds:g} seconds")


class _Plain(http.client.HTTPConnection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._create_connection = _connected


class _Secure(http.client.HTTPSConnection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._create_connection = _connected

    def connect(self) -> None:
        super().connect()
        _note(self.sock)  # another object than before the handshake, which may be slow as well


def _connected(*args: Any, **kwargs: Any) -> socket.socket:
    found = socket.create_connection(*args, **kwargs)
    _note(found)
    return found


def _note(connection: socket.socket) -> None:
    limit = _limit.get()
    if limit is not None:
        limit.sockets.append(connection)
        if limit.over:
            limit.end()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: what is sent, the key above all, is for the address that was named."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Plain, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Secure, req)


OPENER = urllib.request.build_opener(_NoRedirect, _Http, _Https)
"""Opens requests by the rules of this module."""
