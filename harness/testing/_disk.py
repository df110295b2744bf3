"""The check of what a method keeps on disk: it may save work there, and must decide nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._results import Failed

if TYPE_CHECKING:
    from ._trial import Trial

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_noted: ContextVar[list[str] | None] = ContextVar("written", default=None)
_installed: list[bool] = []
LIBRARIES = ("/dev/", "/proc/", "__pycache__", "torchinductor", ".triton", "matplotlib")
"""In paths of what Python and the libraries write for themselves."""


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


def disk(trial: Trial) -> str:
    """What a method keeps on disk decides no answer, and lies in the cache folder."""
    first = trial.first
    cache = trial.folder / "cache"
    strange = [path for path in trial.written if not _allowed(path, trial.folder)]
    if strange:
        raise Failed(
            f"while it answered it wrote {strange[0]}; what is worth keeping belongs into the cache folder "
            "($HARNESS_CACHE), and nothing of samples belongs on the disk"
        )
    kept = sum(path.is_file() for path in cache.rglob("*")) if cache.is_dir() else 0
    if not kept:
        return "nothing is kept"
    shutil.rmtree(cache)
    again = trial.alone(trial.prompts[0])
    if again.tokens != first[0].tokens:
        raise Failed(
            "the same prompt gets another answer once the cache folder is empty; what is kept there may save work, and "
            "must not change answers: compute it the same way each time, or make it an adapter"
        )
    return f"{kept} files in the cache folder; without them the same answer"


def _allowed(path: str, folder: Path) -> bool:
    return Path(path).is_relative_to(folder.resolve()) or any(part in path for part in LIBRARIES)
