"""Who runs samples: this process, or workers that Ray or a launcher starts. What of it is wrong is said before a model
loads.
"""

from __future__ import annotations

import socket
from importlib import metadata

from ..errors import UsageError
from . import launched

ENGINES = ("local", "ray", *launched.LAUNCHERS)
OLDEST = (2, 9)
INSTALL = "pip install 'long-context-harness[ray]'"
PATIENCE = 5.0
"""Seconds in which a cluster's address has to answer."""


def check(engine: str, workers: int | None, address: str | None, join: bool, device: str = "auto") -> None:
    """Refuse what cannot be carried out, before a model is loaded. Raises UsageError."""
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: choose {', '.join(ENGINES[:-1])} or {ENGINES[-1]}")
    if engine != "ray":
        for flag, value in (("workers", workers), ("address", address)):
            if value is not None:
                raise UsageError(f"--{flag} belongs to --engine ray")
    if join and engine != "local":
        raise UsageError(f"--join and --engine {engine} are two ways of sharing out a run; give one")
    if engine in launched.LAUNCHERS:
        if device.startswith("cuda:"):
            raise UsageError(
                f"--device {device} is one GPU, and with --engine {engine} each process takes its own: give cuda"
            )
        launched.check(engine)
    if engine == "ray":
        _check_ray(workers, address)


def _check_ray(workers: int | None, address: str | None) -> None:
    if workers is not None and not 1 <= workers <= 4096:
        raise UsageError(f"--workers must be 1 to 4,096, not {workers}")
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
