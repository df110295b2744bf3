"""The phases of a sample that a method may name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

PHASES = ("compress", "prefill", "decode")


class PhaseListener(Protocol):
    """Whoever books the time of phases: the meter of the engine."""

    def enter(self, name: str) -> None:
        """A phase begins, inside whatever phase there is."""
        ...

    def leave(self) -> None:
        """The innermost phase is over."""
        ...


@runtime_checkable
class PhaseWatcher(Protocol):
    """Whoever shows a person where a sample is; it measures nothing."""

    def phase(self, name: str) -> None:
        """A phase begins."""
        ...

    def step(self, done: int, total: int, unit: str) -> None:
        """So many of so many parts of the phase are done: 3 of 9 intervals."""
        ...


_watcher: ContextVar[PhaseWatcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: object) -> Iterator[None]:
    """Within the block `watcher` is told where a sample is, if it is a `PhaseWatcher`."""
    token = _watcher.set(watcher if isinstance(watcher, PhaseWatcher) else None)
    try:
        yield
    finally:
        _watcher.reset(token)


def step(done: int, total: int, unit: str) -> None:
    """Say how far a phase is, for a person who waits: ``step(3, 9, "intervals")``; nobody may be listening."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher.step(done, total, unit)


_listener: ContextVar[PhaseListener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: PhaseListener) -> Iterator[None]:
    """Within the block `listener` is told of every phase."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Book the time of the enclosed block as `name` (one of `PHASES`); without a listener it does nothing."""
    if name not in PHASES:
        raise ValueError(f"no phase named {name!r}; known: {', '.join(PHASES)}")
    watcher, listener = _watcher.get(), _listener.get()
    if watcher is not None:
        watcher.phase(name)
    if listener is None:
        yield
        return
    listener.enter(name)
    try:
        yield
    finally:
        listener.leave()
