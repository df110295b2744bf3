"""Workers that a launcher started: one for each of its processes, rank 0's own in a process beside it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..contracts.record import Key
from .launched_leader import Leader, leader
from .launched_meeting import Link
from .launched_worker import serve_beside
from .settings import RunSettings


class LaunchedPool:
    """A `harness.evaluation.workers.Pool` of a launcher's processes. Made by `launched_pool`.

    None of them is replaced: a launcher ends all when one ends, and so does this pool.
    """

    def __init__(self, to: Leader, links: Sequence[Link], request: dict[str, Any]) -> None:
        self.size = len(links)
        self._leader, self._free, self._request = to, list(links), request

    def start(self) -> Link:
        """The next process, told what is run."""
        link = self._free.pop(0)
        link.send({"run": self._request})
        return link

    def ask(self, worker: Link, keys: Sequence[Key], shared: bool) -> int:
        """Let a process ask samples."""
        job = self._leader.numbered()
        worker.send({"job": job, "keys": list(keys), "shared": shared})
        return job

    def next(self, jobs: Collection[int]) -> tuple[int, dict[str, Any] | None]:
        """The first job that is done. Raises UsageError if a process is gone."""
        return self._leader.heard(jobs)


@contextmanager
def launched_pool(
    settings: RunSettings, device: str, plugin: str | None, expected: dict[str, Any]
) -> Iterator[LaunchedPool]:
    """A pool for a run, of all processes that were started together; they stay for the next run of the command.

    Parameters
    ----------
    device
        Of this process's model. Each worker has a device of that kind: on ``cuda`` the GPU of its local rank.
    plugin, expected
        See `harness.evaluation.workers.SampleWorker`.
    """
    own = leader()
    own.begin(serve_beside)
    wanted = dataclasses.replace(settings, engine="local", device=device.partition(":")[0])
    request = {"settings": dataclasses.asdict(wanted), "plugin": plugin, "expected": expected}
    request = json.loads(json.dumps(request, default=str))  # paths
    yield LaunchedPool(own, own.links(range(own.place.world)), request)
