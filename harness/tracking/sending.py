"""A tracker behind a queue: what it takes or refuses is no matter of the run's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..contracts.tracker import Tracker

PATIENCE = 30.0
"""Seconds that the end of a run waits for a tracker to take what is left."""
_END = object()


class Sender:
    """Hands calls on to a tracker, in order, from a thread of its own.

    The first call that fails is the last: why is told once, and all that follows is dropped. A call waits for nothing.

    Parameters
    ----------
    make
        Makes the tracker, in the thread.
    tell
        Told in one line what went wrong.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], tell: Callable[[str], None]) -> None:
        self._name, self._make, self._tell = name, make, tell
        self._calls: queue.Queue[Any] = queue.Queue()
        self._down = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"track-{name}", daemon=True)
        self._thread.start()

    def start(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        self._put(lambda tracker: tracker.start(name, config, folder))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._put(lambda tracker: tracker.log(values, step))

    def finish(self, summary: Mapping[str, float], ok: bool) -> None:
        """Send the last word, and wait a while until everything is there."""
        self._put(lambda tracker: tracker.finish(summary, ok))
        self._calls.put(_END)
        self._thread.join(PATIENCE)
        if self._thread.is_alive() and not self._down.is_set():
            self._down.set()
            self._tell(f"{self._name} has not answered for {PATIENCE:.0f} s; it lacks the end of this run")

    def _put(self, call: Callable[[Tracker], None]) -> None:
        if not self._down.is_set():
            self._calls.put(call)

    def _work(self) -> None:
        try:
            tracker = self._make()
            while (call := self._calls.get()) is not _END:
                call(tracker)
        except BaseException as error:  # a client may even try to end the process
            if not self._down.is_set():
                self._down.set()
                said = " ".join(str(error).split())[:200]
                self._tell(
                    f"{self._name} is left out from here on ({type(error).__name__}: {said}); the run goes on"
                )
