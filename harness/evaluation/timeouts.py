"""A limit on how long a sample may take, kept in the process that asks it.

A timer of the operating system interrupts the main thread, wherever in Python it is, and the model is left
without what the interrupted call hung on it. No thread or process is started, so none stays behind. What this
cannot do: interrupt one call of native code that does not come back to Python. A chain of native calls (the
layers of a model, a loop of decoding) is interrupted between two of them; a single one that hangs is not, and
the limit is noticed when it returns.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..errors import UsageError

AGAIN = 5.0
"""Seconds after which the timer interrupts again: Python swallows what is raised while it finalises objects."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class SampleTimeout(Exception):
    """A sample took longer than ``--sample-timeout`` allows."""


class _Interrupt(BaseException):
    """No handler for errors may catch it, as none catches a Ctrl-C."""


def check(seconds: float | None) -> None:
    """Refuse a limit that is none, or that cannot be kept here. Raises UsageError."""
    if seconds is None:
        return
    if not 0 < seconds < 1e8:
        raise UsageError(f"--sample-timeout {seconds:g}: must be more than 0 seconds")
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        raise UsageError("--sample-timeout needs a system with interval timers, and the main thread")


@contextmanager
def limited(seconds: float | None, network: Any = None) -> Iterator[None]:
    """Let the block take so many seconds; None: as many as it likes.

    Parameters
    ----------
    network
        A torch module. Hooks that the interrupted block left on it or its parts are taken off again.

    Raises
    ------
    SampleTimeout
        Once they are over, and the block has come back to Python.
    """
    if seconds is None:
        yield
        return
    before = _hooks(network)
    armed = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        if armed:
            raise _Interrupt

    earlier = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        try:
            yield
        finally:
            armed = False
    except _Interrupt:  # from the block, or from the moment after it
        armed = False
        _restore(network, before)
        raise SampleTimeout(f"not answered within {seconds:g} seconds (--sample-timeout)") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def _hooks(network: Any) -> list[dict[int, Any]]:
    modules = () if network is None else network.modules()
    return [dict(getattr(module, name)) for module in modules for name in _HOOKS]


def _restore(network: Any, before: list[dict[int, Any]]) -> None:
    """Take off the hooks that were not there before."""
    held = iter(before)
    for module in () if network is None else network.modules():
        for name in _HOOKS:
            hooks, kept = getattr(module, name), next(held, {})
            for key in [key for key in hooks if key not in kept]:
                del hooks[key]
