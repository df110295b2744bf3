"""How processes that were started together find rank 0, and talk to it: JSON over one connection for each.

Where rank 0 listens stands in the key-value store that the launcher has anyway.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from .._version import __version__
from ..errors import UsageError
from .launched import Place

PATIENCE = 180.0
"""Seconds in which all processes have to report, and rank 0 to answer."""
HELLO = 10.0
"""Seconds in which whoever connects has to say who it is."""


def called(rank: int, node: str) -> str:
    """What messages call a worker."""
    return f"worker of rank {rank} on {node}"


@dataclass
class Link:
    """A process that reported to rank 0."""

    rank: int
    node: str
    connection: Connection

    @property
    def name(self) -> str:
        return called(self.rank, self.node)

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises UsageError if it is gone."""
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError:
            raise self.gone() from None

    def receive(self) -> dict[str, Any]:
        """What it says next. Raises UsageError if it is gone."""
        try:
            return dict(json.loads(self.connection.recv_bytes()))
        except (EOFError, OSError):
            raise self.gone() from None

    def gone(self) -> UsageError:
        """What the user is told when the process ended, or its machine."""
        return UsageError(f"{self.name} is gone; what is finished is kept, and the same command goes on")


def report(here: Place) -> Connection:
    """The connection to rank 0. Raises UsageError if it does not answer."""
    store, host, deadline = store_of(here), os.environ["MASTER_ADDR"], time.monotonic() + PATIENCE
    while True:
        try:
            port, token = json.loads(store.get(key()))
            found = connected(socket.create_connection((host, port), HELLO))
            found.send_bytes(hello(here.rank, token))
            return found
        except (OSError, RuntimeError) as error:
            # It is not there yet, or what stands there is that of one that was stopped.
            if time.monotonic() > deadline:
                raise UsageError(f"rank 0 does not answer at {host} ({error})") from None
            time.sleep(0.2)


def hello(rank: int, token: str) -> bytes:
    """What a process says first."""
    said = {"token": token, "rank": rank, "node": platform.node(), "harness": __version__}
    return json.dumps(said).encode()


def connected(found: socket.socket) -> Connection:
    """A socket as a connection of whole messages, that notices within minutes if the other machine is gone."""
    found.settimeout(None)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 6)):
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Connection(found.detach())


def listening(world: int) -> socket.socket:
    """A port of this machine's that is free, for IPv6 as well where there is that."""
    with suppress(OSError):
        return socket.create_server(
            ("", 0), family=socket.AF_INET6, dualstack_ipv6=socket.has_dualstack_ipv6(), backlog=world
        )
    return socket.create_server(("", 0), backlog=world)


def store_of(here: Place) -> Any:
    """The launcher's key-value store; where it has none, rank 0 opens it at the address that all were told."""
    from torch import distributed

    if not distributed.is_available():
        raise UsageError("this torch was built without torch.distributed, which a launcher's engine needs")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name, "").strip()]
    if missing or not (os.environ["MASTER_PORT"].isdecimal() and int(os.environ["MASTER_PORT"]) < 2**16):
        raise UsageError(
            "MASTER_ADDR and MASTER_PORT do not say where rank 0 is: start the command by torchrun"
        )
    launchers = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    opens = here.rank == 0 and not launchers
    try:
        if opens:  # or torch tries a name that nobody has for minutes, with its stack for each try
            socket.getaddrinfo(host, port)
        return distributed.TCPStore(  # type: ignore[attr-defined]
            host,
            port,
            is_master=opens,
            timeout=timedelta(seconds=PATIENCE),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise UsageError(f"MASTER_ADDR and MASTER_PORT, {host}:{port}, cannot be used: {said}") from None


def key() -> str:
    """Of this attempt: a launcher that starts all processes again keeps its store."""
    return f"harness/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
