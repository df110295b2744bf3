"""Lines forced onto the disk while the model works on the next sample."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any


class BackgroundSync:
    """Syncs files in a thread, at most one at a time: whoever writes the next line waits for the one before.

    A line that was written outlives the process at once; only a machine that loses its power can lose the
    newest line, and that sample runs again.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._under_way: Future[None] | None = None

    def hand_over(self, file: IO[Any]) -> None:
        """Sync what was written to `file`, which may be closed meanwhile; call `wait` first."""
        self._under_way = self._thread.submit(_sync, os.dup(file.fileno()))

    def wait(self) -> None:
        """Until all is on the disk. Raises OSError if the disk refuses."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def close(self) -> None:
        """End the thread, once it is done."""
        self._thread.shutdown()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
