"""Calls of a method from a thread of their own, whose call stack holds nothing of a sample but what it is given.

References and tasks lie in the frames of whoever runs samples. A method that walks up its stack finds a thread's
beginning, its own arguments, and no more. (Whoever searches the process's memory finds everything; SECURITY.md.)
"""

from __future__ import annotations

import contextvars
import ctypes
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

AGAIN = 1.0
"""Seconds after which a call that is to end is told so again: Python swallows what is raised in finalisers."""


class _Call:
    """A call under way, and what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function: Callable[[], Any] | None = function
        self.context = contextvars.copy_context()
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class _Worker:
    """The thread; one serves a process, made on first use."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self.thread = threading.Thread(target=_work, args=(self.calls,), name="method", daemon=True)
        self.thread.start()


def _work(calls: queue.SimpleQueue[_Call]) -> None:
    while True:
        call: _Call | None = calls.get()
        assert call is not None
        try:
            try:
                function, call.function = call.function, None
                assert function is not None
                call.result = call.context.run(function)
            except BaseException as error:
                call.error = error
            function = None
            call.done.set()
        except BaseException as error:  # told to end at the very moment it did
            call.error = call.error or error
            call.done.set()
        call = None


_worker: _Worker | None = None


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function returns or raises, called in the method's thread; it sees this context's variables.

    A Ctrl-C or a timer that interrupts the wait ends the call as well, before it goes on its way.
    """
    global _worker
    if _worker is None or not _worker.thread.is_alive():
        _worker = _Worker()
    if threading.current_thread() is _worker.thread:
        return function(*args, **kwargs)
    call = _Call(lambda: function(*args, **kwargs))
    _worker.calls.put(call)
    try:
        call.done.wait()
    except BaseException as error:
        _end(_worker.thread, call, type(error))
        raise
    if call.error is not None:
        try:
            raise call.error
        finally:
            call.error = None  # its frames hold what may have filled the memory
    result: T = call.result
    return result


def _end(thread: threading.Thread, call: _Call, kind: type[BaseException]) -> None:
    """Raise in the thread what was raised here, until the call has come to its end."""
    while not call.done.is_set():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))
        call.done.wait(AGAIN)
