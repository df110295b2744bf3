"""The phases of a sample that a method may name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

PHASES = ("compress", "prefill", "decode")


class PhaseListener(Protocol):
    """Whoever books the time of phases: the meter of the engine."""

    def enter(self, name: str) -> None:
        """A phase begins, inside whatever phase there is."""
        ...

    def leave(self) -> None:
        """The innermost phase is over."""
        ...


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
    listener = _listener.get()
    if listener is None:
        yield
        return
    listener.enter(name)
    try:
        yield
    finally:
        listener.leave()
