"""The phases of a sample that a method may name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..inference.meter import Meter


PHASES = ("compress", "prefill", "decode")


_current: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Book the time of the enclosed block as `name` (one of `PHASES`); without a meter it does nothing."""
    if name not in PHASES:
        raise ValueError(f"no phase named {name!r}; known: {', '.join(PHASES)}")
    meter = _current.get()
    if meter is None:
        yield
        return
    meter._switch()
    meter._entered = meter._entered or name == "decode"
    meter._stack.append(name)
    try:
        yield
    finally:
        meter._switch()
        meter._stack.pop()
