"""What is kept from the terminal: progress under ``--quiet``, and what libraries print on their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

QUIET: ContextVar[bool] = ContextVar("QUIET", default=False)
"""Whether displays keep progress and notes to themselves; results and errors are shown all the same."""


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Displays made inside show no progress, if `quiet`."""
    token = QUIET.set(quiet or QUIET.get())
    try:
        yield
    finally:
        QUIET.reset(token)
