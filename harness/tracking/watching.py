"""Runs and fits as a tracker sees them: numbers as they come, and the summary at the end. No text of any sample."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ..contracts.record import Key, SampleRecord
from .clients import TRACKERS
from .sending import Sender

NUMBERS = ("score", "n_ok", "compression", "prompt_tokens", "kv_bytes", "peak_bytes")
"""What of a task's summary is sent, beside its scores."""


class TrackedRun:
    """A watcher that hands everything on to `shown`, and the numbers of each sample to trackers."""

    def __init__(self, shown: Any, senders: Sequence[Sender]) -> None:
        self._shown, self._senders = shown, senders
        self._done = 0
        self._sums: dict[str, tuple[float, int]] = {}
        self.ending: dict[str, float] = {}

    def start(self, totals: dict[str, int], done: dict[str, int]) -> None:
        self._done = sum(done.values())
        self._shown.start(totals, done)

    def note(self, text: str) -> None:
        self._shown.note(text)

    def announce(self, what: str) -> AbstractContextManager[Any]:
        found: AbstractContextManager[Any] = self._shown.announce(what)
        return found

    def begin(self, keys: list[Key]) -> None:
        """As `harness.evaluation.runner.BatchWatcher`, if `shown` is one."""
        if hasattr(self._shown, "begin"):
            self._shown.begin(keys)

    def phase(self, name: str) -> None:
        """As `harness.contracts.phases.PhaseWatcher`, if `shown` is one."""
        if hasattr(self._shown, "phase"):
            self._shown.phase(name)

    def step(self, done: int, total: int, unit: str) -> None:
        """As `harness.contracts.phases.PhaseWatcher`, if `shown` is one."""
        if hasattr(self._shown, "step"):
            self._shown.step(done, total, unit)

    def sample(self, task: str, record: SampleRecord) -> None:
        self._shown.sample(task, record)
        self._done += 1
        values = {f"{task}/failed": float(not record.finished)}
        if record.finished:
            values |= {f"{task}/{metric}": float(value) for metric, value in record.scores.items()}
            values |= {
                f"{task}/{name}": float(value)
                for name, value in (
                    ("seconds", record.cost.seconds),
                    ("kv_tokens", record.measured.kv_tokens),
                    ("compression", record.measured.compression),
                )
                if value is not None
            }
        means = {name: self._mean(name, value) for name, value in values.items()}
        for sender in self._senders:
            sender.log(means, self._done)

    def _mean(self, name: str, value: float) -> float:
        total, count = self._sums.get(name, (0.0, 0))
        self._sums[name] = (total + value, count + 1)
        return (total + value) / (count + 1)

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Take the numbers of the run's summary, to be sent as its end."""
        for row in summary["tasks"]:
            found = {name: row.get(name) for name in NUMBERS} | dict(row.get("scores") or {})
            self.ending |= {f"summary/{row['task']}/{k}": float(v) for k, v in found.items() if v is not None}


class TrackedFit:
    """What is shown of a fit, and its curve in trackers."""

    def __init__(self, shown: Any, senders: Sequence[Sender]) -> None:
        self._shown, self._senders = shown, senders
        self.ending: dict[str, float] = {}

    def start(self, total: int, done: int) -> None:
        self._shown.start(total, done)

    def note(self, text: str) -> None:
        self._shown.note(text)

    def announce(self, what: str) -> AbstractContextManager[Any]:
        found: AbstractContextManager[Any] = self._shown.announce(what)
        return found

    def step(self, step: int, loss: float, tokens: int, seconds: float) -> None:
        self._shown.step(step, loss, tokens, seconds)
        speed = tokens / max(seconds, 1e-9)
        values = {"fit/loss": loss, "fit/tokens": float(tokens), "fit/tokens_per_second": speed}
        for sender in self._senders:
            sender.log(values, step)

    def finished(self, loss: float | None) -> None:
        """Take the loss over the last tenth, to be sent as the fit's end."""
        if loss is not None:
            self.ending["summary/loss"] = loss


@contextmanager
def _senders(
    names: Sequence[str], folder: Path, config: Mapping[str, Any], ending: dict[str, float]
) -> Iterator[list[Sender]]:
    senders = [Sender(name, TRACKERS[name], _tell) for name in dict.fromkeys(names)]
    for sender in senders:
        sender.start(folder.name, config, folder)
    ok = False
    try:
        yield senders
        ok = True
    finally:
        for sender in senders:
            sender.finish(ending, ok)


def _tell(line: str) -> None:
    """At once, and under --quiet too: numbers that somebody waits for will not come."""
    sys.stderr.write(f"harness: {line}\n")


@contextmanager
def track_run(
    names: Sequence[str], folder: Path, identity: Mapping[str, Any], shown: Any
) -> Iterator[TrackedRun]:
    """A watcher of a run whose numbers go to the trackers `names`; `shown` sees all that it would see without.

    Parameters
    ----------
    folder
        The run's; its name is the run's name there.
    identity
        What the run's hash covers: the settings that are sent.
    """
    left_out = ("tasks", "schema", "method_identity")
    config = {name: value for name, value in identity.items() if name not in left_out}
    config["tasks"] = [task["name"] for task in identity["tasks"]]
    watcher = TrackedRun(shown, [])
    with _senders(names, folder, config, watcher.ending) as senders:
        watcher._senders = senders
        yield watcher


@contextmanager
def track_fit(
    names: Sequence[str], folder: Path, request: Mapping[str, Any], shown: Any
) -> Iterator[TrackedFit]:
    """The same for a fit; its name is that of the adapter's folder. Where files lie is not sent."""
    request = {
        **request,
        "model": Path(str(request["model"])).name,
        "data": [Path(d).name for d in request["data"]],
    }
    view = TrackedFit(shown, [])
    with _senders(names, folder.resolve(), request, view.ending) as senders:
        view._senders = senders
        yield view
