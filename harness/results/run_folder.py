"""Runs on disk: `run.json` and `samples.jsonl`, written so that a kill at any moment loses one sample at most.

A sample's line is appended and flushed to the disk as it finishes. Opening a folder for more work drops a
torn last line and the lines of failed samples (they are run again), never a finished one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .._util.files import unwritable, write_whole
from ..contracts.record import Key, SampleRecord
from ..errors import UsageError
from .background_sync import BackgroundSync
from .record_lines import NAMED, Line, collector_paused, complete_lines, line_of, parsed
from .standing import Standing

SCHEMA = 1
"""Version of what a run's folder holds."""
RUN = "run.json"
SAMPLES = "samples.jsonl"
FAILED = "samples-failed{}.jsonl"
LOCK = ".lock"
PARTS = "parts"


class Planned(Protocol):
    """What is planned of a sample, as far as it matters here."""

    @property
    def key(self) -> Key: ...


class Batch(Protocol):
    """Samples that are asked in one go."""

    @property
    def samples(self) -> Sequence[Planned]: ...


B = TypeVar("B", bound=Batch)


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Twelve hex digits over everything that can change an answer."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]


def folder_name(method: str, model: str, identity: Mapping[str, Any]) -> str:
    """``<method>-<model>-<hash>``, safe as a file name whatever the model is called."""
    short = re.sub(r"[^A-Za-z0-9._]+", "-", Path(model).name).strip("-.") or "model"
    return f"{re.sub(r'[^A-Za-z0-9._]+', '-', method)}-{short}-{identity_hash(identity)}"


def misshapen(content: Mapping[str, Any]) -> str:
    """What of `run.json` is of another type or lacks a part that is read; empty if nothing."""
    if why := _unreadable(content):
        return why
    for name in ("identity", "settings", "method", "model", "prompts", "summary"):
        if not isinstance(content.get(name, {}), Mapping):
            return f"{name} is no object"
    for name, part in (("method", "name"), ("model", "name"), ("identity", "options"), ("identity", "tasks")):
        if part not in content[name]:
            return f"{name} has no {part!r}"
    if not isinstance(content["identity"]["options"], Mapping):
        return "identity.options is no object"
    window = content["identity"].get("context_length")
    if window is not None and type(window) is not int:
        return "identity.context_length is no whole number"
    tasks, rows = content["identity"]["tasks"], content.get("summary", {}).get("tasks", [])
    parts = {
        "identity.tasks": (tasks, ("name", "version", "preset", "options")),
        "summary.tasks": (rows, ("task", "metric")),
    }
    for name, (found, needed) in parts.items():
        if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
            return f"{name} is no list of objects"
        if lacking := next((part for each in found for part in needed if part not in each), None):
            return f"{name} has one without {lacking!r}"
    return ""


def _unreadable(content: Mapping[str, Any]) -> str:
    """What of `run.json` a run that goes on cannot read; empty if nothing."""
    planned = content.get("planned", {})
    if not isinstance(planned, Mapping) or not all(isinstance(ids, list) for ids in planned.values()):
        return "planned is no object of lists"
    environments = content.get("earlier_environments", [])
    if not isinstance(environments, list) or not all(
        isinstance(each, Mapping) for each in [*environments, content.get("environment", {})]
    ):
        return "environment, or an earlier one, is no object"
    return ""


def earlier_environments(run: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Environments in which samples of a run (its `run.json`) were answered, other than the present one."""
    seen = [*run.get("earlier_environments", ()), run.get("environment")]
    return [e for i, e in enumerate(seen) if e and e != now and e not in seen[:i]]


class RunFolder:
    """One run's folder.

    Parameters
    ----------
    path
        The folder; need not exist before `open`.
    """

    shared = False
    """Whether other processes may be working on the folder at the same time (see `SharedRunFolder`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hash = ""
        self._behind: BackgroundSync | None = None
        self._standing = Standing(path)
        self.half_answered: dict[Key, SampleRecord] = {}

    @property
    def hash(self) -> str:
        """The run's hash, which the checksums of its lines cover; empty as long as there is no `run.json`."""
        if not self._hash:
            self._hash = str((self.read_run() or {}).get("hash", ""))
        return self._hash

    @property
    def named(self) -> bool:
        """Whether every line's checksum covers the run's hash: not so in a run that an earlier version began."""
        return (self.read_run() or {}).get(NAMED) is True

    @property
    def samples_path(self) -> Path:
        """The file of the records, one line each."""
        return self.path / SAMPLES

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder for writing. A second process is refused; a lock never outlives its process."""
        with self._errors():
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK).open("w")
            self._standing.settle()
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"another process is working on {self.path}; wait for it or stop it"
                ) from None
            yield

    def begin(self) -> None:
        """Called once, when the folder is set up and samples are about to be asked."""

    def workers(self) -> int:
        """Processes of this machine at work here: alone."""
        return 1

    def claimed(self, batches: Iterable[B]) -> Iterator[B]:
        """Those of `batches` that are this process's to ask."""
        yield from batches

    def leaving(self) -> AbstractContextManager[None]:
        """Around the last words of a process: what it writes into `run.json` once it asks no more."""
        return nullcontext()

    def read_run(self) -> dict[str, Any] | None:
        """The content of `run.json`; None if there is none yet."""
        path = self.path / RUN
        if not path.is_file():
            return None
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
            if why := _unreadable(found):
                raise ValueError(why)
        except (ValueError, TypeError, RecursionError) as error:
            raise UsageError(f"{path} is damaged ({error}); move the folder away to start over") from None
        return found

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Replace `run.json`, whole or not at all."""
        self._replace(RUN, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run (``prompts/passkey.txt``), whole or not at all."""
        self._replace(name, text)

    def append(self, record: SampleRecord) -> None:
        """Add one sample's line and see it safely on disk (see `syncing_behind`)."""
        self._add(self.samples_path, record)

    def _add(self, path: Path, record: SampleRecord) -> None:
        line = line_of(record, self.hash)
        with self._errors(), ExitStack() as files:
            if self._behind is not None:
                self._behind.wait()  # nothing stands behind a line that the disk refused
            self._standing.check(path)
            file = files.enter_context(path.open("a", encoding="utf-8"))
            file.write(line)
            file.flush()
            self._standing.added(path, file.fileno(), len(line.encode()))
            if self._behind is not None:
                self._behind.hand_over(file)
            else:
                os.fsync(file.fileno())

    @contextmanager
    def syncing_behind(self) -> Iterator[None]:
        """Within the block a line is on its way to the disk while the next sample runs; at its end all are there.

        Raises
        ------
        UsageError
            If the disk refuses: from the next `append`, or from the end of the block.
        """
        self._behind = behind = BackgroundSync()
        try:
            yield
            with self._errors():
                behind.wait()
        finally:
            self._behind = None
            behind.close()

    def records(self) -> list[SampleRecord]:
        """The record of every complete line, in order; a torn last line is left out.

        Raises
        ------
        UsageError
            If a line other than the last is damaged: that is no interrupted write, so nothing is guessed.
        """
        return [line.record for line in self._lines()]

    def _lines(self) -> list[Line]:
        if not self.samples_path.is_file():
            return []
        with collector_paused():
            return parsed(self.samples_path.read_bytes(), self.samples_path, self.hash, self.named)

    def recover(self) -> dict[Key, SampleRecord]:
        """Finished samples by (task, id); torn and failed lines are removed from the file.

        What processes that had joined and were killed left in files of their own is taken in first. Failed samples with
        an answer to some of their questions are kept in `half_answered`: only the others are asked again.
        """
        self._standing.forget()
        self.take_in(())
        lines = self._lines()
        finished = {line.record.key: line for line in lines if line.record.finished}
        self.half_answered = {
            line.record.key: line.record
            for line in lines
            if line.record.answers and line.record.key not in finished
        }
        whole = self.samples_path.is_file() and self.samples_path.read_bytes().endswith(b"\n")
        if len(finished) < len(lines) or (lines and not whole) or (not lines and self.samples_path.is_file()):
            self._replace(SAMPLES, "".join(line.text for line in finished.values()))
        return {key: line.record for key, line in finished.items()}

    def parts(self) -> list[Path]:
        """Files of samples that belong to one of several processes each; see `harness.results.shared_run_folder`."""
        return sorted((self.path / PARTS).glob("*.jsonl"))

    def take_in(self, order: Sequence[Key]) -> None:
        """Put the samples of all parts into the one file, in `order` and then as they were, each once.

        A kill in between loses nothing: the parts go last.
        """
        parts = self.parts()
        if not parts:
            return
        found = {line.record.key: line for line in self._lines()}
        for path in parts:
            for line in complete_lines(path.read_bytes(), path, self.hash, self.named)[0]:
                key = line.record.key
                if key not in found or not found[key].record.finished:
                    found[key] = line
        places = {key: place for place, key in enumerate(order)}
        keys = sorted(found, key=lambda key: places.get(key, len(places)))
        self._replace(SAMPLES, "".join(found[key].text for key in keys))
        with self._errors():
            for path in parts:
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody has just joined
                (self.path / PARTS).rmdir()

    def put_in_order(self, order: Sequence[Key]) -> None:
        """Put the samples into the order in which one process alone would have written them."""
        places = {key: place for place, key in enumerate(order)}
        lines = sorted(self._lines(), key=lambda line: places.get(line.record.key, len(places)))
        self._replace(SAMPLES, "".join(line.text for line in lines))

    def set_aside(self) -> None:
        """Keep the samples of a failed run under another name, out of the way of a new start."""
        self.take_in(())
        with self._errors():
            if self.samples_path.is_file():
                number = len(list(self.path.glob(FAILED.format("*"))))
                self.samples_path.replace(self.path / FAILED.format(f"-{number + 1}" if number else ""))

    def _replace(self, name: str, text: str) -> None:
        with self._errors():
            self._standing.check(self.samples_path)
            write_whole(self.path / name, text)
            self._standing.forget(self.path / name)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(errno.ENOENT) if error.errno == errno.ENOENT else unwritable(error)
            if reason is None:
                raise
            raise UsageError(
                f"{self.path} cannot be written ({reason}); make room or choose another --out. "
                "Finished samples are kept: the same command resumes"
            ) from error
