"""Rank 0 of processes that were started together: it says what to run and hears what came of it."""

from __future__ import annotations

import hmac
import json
import multiprocessing
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from .._version import __version__
from ..errors import UsageError
from .launched import LEADERS, Place
from .launched_meeting import HELLO, PATIENCE, Link, connected, key, listening, store_of


class Leader:
    """Rank 0: where the others report, and what it says to them and hears from them. Made by `leading`."""

    def __init__(self, here: Place) -> None:
        self.place = here
        self.token = secrets.token_hex(16)
        self._server = listening(here.world)
        self.port: int = self._server.getsockname()[1]
        self._links: dict[int, Link] = {}
        self._jobs = 0
        self._beside: BaseProcess | None = None
        self._store = store_of(here)  # held: where the launcher has none, it ends with this process
        self._store.set(key(), json.dumps([self.port, self.token]))

    def begin(self, beside: Callable[[Place, int, str], None]) -> None:
        """Start the process `beside` this one, which works on this rank's device; once for all runs of the command."""
        if self._beside is None:
            given = (self.place, self.port, self.token)
            self._beside = multiprocessing.get_context("spawn").Process(
                target=beside, args=given, daemon=True
            )
            self._beside.start()

    def links(self, ranks: Collection[int]) -> list[Link]:
        """Those processes, once all have reported. Raises UsageError with those that do not within `PATIENCE`."""
        deadline = time.monotonic() + PATIENCE
        while missing := [rank for rank in ranks if rank not in self._links]:
            self._server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                found, _ = self._server.accept()
            except TimeoutError:
                raise UsageError(
                    f"{len(missing)} of {self.place.world} processes did not report to rank 0 within {PATIENCE:g} "
                    f"seconds: rank {', '.join(map(str, missing))}"
                ) from None
            self._admit(connected(found))
        return [self._links[rank] for rank in ranks]

    def _admit(self, connection: Connection) -> None:
        """Let in who knows the token and has this version; whoever else connects to an open port is let go."""
        try:
            if not connection.poll(HELLO):
                return
            said = dict(json.loads(connection.recv_bytes(2**16)))
        except (EOFError, OSError, ValueError):
            return
        if not hmac.compare_digest(str(said.get("token")).encode(), self.token.encode()):
            return
        link = Link(int(said["rank"]), str(said["node"]), connection)
        if said["harness"] != __version__:
            raise UsageError(
                f"{link.name} has harness {said['harness']}, this process {__version__}; install the same everywhere"
            )
        self._links[link.rank] = link

    def numbered(self) -> int:
        """A number that no other job of this command has."""
        self._jobs += 1
        return self._jobs

    def heard(self, jobs: Collection[int]) -> tuple[int, dict[str, Any]]:
        """The first of these jobs that is done, and its answer; what is said of jobs of earlier runs is passed over.

        Raises
        ------
        UsageError
            If a process is gone.
        RuntimeError
            If one found a defect.
        """
        while True:
            ready = wait([link.connection for link in self._links.values()])
            for link in self._links.values():
                if link.connection not in ready:
                    continue
                said = link.receive()
                if said["job"] not in jobs:
                    continue
                if "broken" in said:
                    raise RuntimeError(f"{link.name}: {said['broken']}")
                return said["job"], said["answer"]

    def close(self) -> None:
        """Let all processes end, whatever they are at."""
        for link in self._links.values():
            with suppress(UsageError):
                link.send({"over": True})
            link.connection.close()
        self._server.close()


def leader() -> Leader:
    """Rank 0's, inside `leading`."""
    found: Leader = LEADERS[-1]
    return found


@contextmanager
def leading(here: Place) -> Iterator[None]:
    """Be rank 0 for a block; the others are told that it is over whichever way it ends."""
    found = Leader(here)
    LEADERS.append(found)
    try:
        yield
        found.links(range(1, here.world))  # who is slower than the whole command is told as well
    finally:
        LEADERS.remove(found)
        found.close()
