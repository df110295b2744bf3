"""Several processes on one run folder: ``harness run --join``, started as often as there are workers.

They share nothing but the samples' names and a file system. A process locks the byte of each sample it asks
in one file (`CLAIMS`; which byte, a hash of the name says) and writes what it finds to a part of its own. The
kernel takes the locks of a killed process back, and whoever waits for one of them asks its sample. Whoever
leaves last puts the parts together, in the order a single process would have written them.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from ..contracts.record import Key, SampleRecord
from ..errors import MeasurementError, UsageError
from .record_lines import complete_lines
from .run_folder import LOCK, PARTS, B, Batch, RunFolder, earlier_environments
from .workers import Workers

CLAIMS = ".claims"
DOOR = ".door"
"""Held for a moment by whoever comes or goes."""
WORKERS = f".workers-{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}"
"""Those of this machine; others share the folder, not the cores."""


class SharedRunFolder(RunFolder):
    """A run folder that other processes work on at the same time.

    Parameters
    ----------
    path
        The folder.
    order
        Every planned sample, in the order in which one process alone would ask them.
    seen
        Called with the task and the record of each sample that another process has finished.
    """

    shared = True

    def __init__(
        self, path: Path, order: Sequence[Key], seen: Callable[[str, SampleRecord], None] | None = None
    ) -> None:
        super().__init__(path)
        self._order = order
        self._planned = frozenset(order)
        self._seen = seen
        self._view: dict[Key, SampleRecord] = {}
        self._read: dict[Path, int] = {}
        self._first = self._last = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """Come in: the first finds the folder as it was left, the others find it at work.

        Raises
        ------
        UsageError
            If a process that was started without ``--join`` is working on it.
        """
        with ExitStack() as files:
            with self._errors():
                self.path.mkdir(parents=True, exist_ok=True)
                self._lock = files.enter_context((self.path / LOCK).open("w"))
                self._door = files.enter_context((self.path / DOOR).open("w"))
                self._standing.settle()
                self._claims = files.enter_context((self.path / CLAIMS).open("w"))
                self._workers = Workers(files.enter_context((self.path / WORKERS).open("a+b")))
            fcntl.flock(self._door, fcntl.LOCK_EX)  # until `begin`, or until this process has left
            self._first = _locked(self._lock, fcntl.LOCK_EX)
            if not _locked(self._lock, fcntl.LOCK_SH):
                raise UsageError(
                    f"another process is working on {self.path} alone; start all of them with --join to share it"
                )
            self._part = self.path / PARTS / f"{secrets.token_hex(8)}.jsonl"
            yield

    def recover(self) -> dict[Key, SampleRecord]:
        """As ever for the first; the others also get what failed a moment ago, which nobody is to ask again."""
        if self._first:
            self.take_in(self._order)
            self._view.update(super().recover())
        else:
            self._view.update({r.key: r for r in self.records()})
            self._look(tell=False)  # whoever watches is told how far the run is
        return self._view

    def set_aside(self) -> None:
        """As ever for the first. Raises UsageError for the others: they came to a run that has just failed."""
        if not self._first:
            raise UsageError(
                f"{self.path} holds a run that failed a moment ago; wait until its processes are gone"
            )
        super().set_aside()

    def workers(self) -> int:
        """Processes of this machine at work here, this one included."""
        return self._workers.count()

    def begin(self) -> None:
        """Let the next one in."""
        with self._errors():  # only now: the first may just have emptied and removed it
            (self.path / PARTS).mkdir(exist_ok=True)
        fcntl.flock(self._door, fcntl.LOCK_UN)

    def append(self, record: SampleRecord) -> None:
        """Add one sample's line to this process's own part, and see it safely on disk."""
        self._add(self._part, record)

    def claimed(self, batches: Iterable[B]) -> Iterator[B]:
        """Batches with something unfinished, each held until the next is asked for; then those that others hold.

        Raises
        ------
        MeasurementError
            If another process has caught the method: no number of this run is to be believed.
        """
        later = []
        for batch in batches:
            if not self._claim(batch, wait=False):
                later.append(batch)
            else:
                yield from self._held(batch)
        for batch in later:  # nothing is free any more: whoever holds these finishes them, or dies
            self._claim(batch, wait=True)
            yield from self._held(batch)

    def _held(self, batch: B) -> Iterator[B]:
        """`batch`, if anything of it is still to do now that nobody else can be at it."""
        try:
            if (found := self.read_run() or {}).get("status") == "failed":
                raise MeasurementError(f"another process of this run failed: {found.get('error')}")
            self._look()
            if any(sample.key not in self._view for sample in batch.samples):
                yield batch
        finally:
            if not self._claims.closed:  # closing it has let go of everything
                fcntl.lockf(self._claims, fcntl.LOCK_UN)

    def _claim(self, batch: Batch, *, wait: bool) -> bool:
        """Take every sample of the batch, or none. All take them in one order, so none waits in a circle."""
        for place in sorted({_place(sample.key) for sample in batch.samples}):
            try:
                fcntl.lockf(self._claims, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
            except BlockingIOError:
                fcntl.lockf(self._claims, fcntl.LOCK_UN)
                return False
        return True

    def _look(self, tell: bool = True) -> None:
        """Read what other processes have finished since."""
        for path in self.parts():
            if path == self._part:
                continue
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines, size = complete_lines(file.read(), path, self.hash, self.named)
            self._read[path] = self._read.get(path, 0) + size
            for record, _ in lines:
                if record.key not in self._view:
                    self._view[record.key] = record
                    if tell and self._seen is not None and record.key in self._planned:
                        self._seen(record.task, record)

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Go. Only the last to go writes `run.json`, from all that all have found, and puts the parts together."""
        fcntl.flock(self._door, fcntl.LOCK_EX)
        self._look()
        self._last = _locked(self._lock, fcntl.LOCK_EX)
        if self._last:
            self._look()  # of who has been killed in between
        try:
            yield
            if self._last:
                self.take_in(self._order)
        finally:
            # The rest of the lock goes with the file: a process that comes now is the first.
            self._last = False
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Replace `run.json` if this is the process to do it; that the run failed, whichever finds out."""
        found = self.read_run() or {}
        if content["status"] == "running":
            super().write_run(content)
        elif found.get("status") != "failed" and (self._last or content["status"] == "failed"):
            others = earlier_environments(found, content["environment"])
            super().write_run({**content, **({"earlier_environments": others} if others else {})})


def _locked(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _place(key: Key) -> int:
    """The byte that stands for a sample; two of one byte only wait for each other."""
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    return int.from_bytes(digest[:7], "big")
