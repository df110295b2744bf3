"""Files that Python code opens to write, noted as it does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_noted: ContextVar[list[str] | None] = ContextVar("written", default=None)
_installed: list[bool] = []


@contextmanager
def noting_writes(found: list[str]) -> Iterator[None]:
    """Note every file that Python code opens to write during the block (native code is not seen)."""
    if not _installed:  # an audit hook stays for ever: one for the process
        sys.addaudithook(_heard)
        _installed.append(True)
    token = _noted.set(found)
    try:
        yield
    finally:
        _noted.reset(token)


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if event not in ("open", "sqlite3.connect"):
        return
    found = _noted.get()
    if found is None or not isinstance(args[0], str | os.PathLike):
        return
    if event == "open":
        mode, flags = args[1], args[2]
        if not (set(mode or "") & set("wax+") or (isinstance(flags, int) and flags & _WRITES)):
            return
    found.append(str(Path(os.fspath(args[0])).absolute()))
