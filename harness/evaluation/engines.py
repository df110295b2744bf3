"""Who runs samples: this process, or workers that Ray starts. What of it is wrong is said before a model loads."""

from __future__ import annotations

import socket
from importlib import metadata

from ..errors import UsageError

OLDEST = (2, 9)
INSTALL = "pip install 'long-context-harness[ray]'"
PATIENCE = 5.0
"""Seconds in which a cluster's address has to answer."""


def check(engine: str, workers: int | None, address: str | None, join: bool) -> None:
    """Refuse what cannot be carried out, before a model is loaded. Raises UsageError."""
    if engine == "local":
        for flag, value in (("workers", workers), ("address", address)):
            if value is not None:
                raise UsageError(f"--{flag} belongs to --engine ray")
        return
    if engine != "ray":
        raise UsageError(f"--engine {engine}: choose local or ray")
    if workers is not None and not 1 <= workers <= 4096:
        raise UsageError(f"--workers must be 1 to 4,096, not {workers}")
    if join:
        raise UsageError("--join and --engine ray are two ways of sharing out a run; give one")
    try:
        found = metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise UsageError(f"--engine ray needs Ray: {INSTALL}") from None
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        raise UsageError(f"--engine ray needs Ray 2.9 or newer, not {found}: {INSTALL}")
    if address is not None:
        _answers(address)


def _answers(address: str) -> None:
    """Ray itself would wait for minutes for an address where nobody is."""
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isdecimal()):
        raise UsageError(f"--address {address}: give HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--address {address}: nobody answers there ({error}); is `ray start --head` running?"
        ) from None
