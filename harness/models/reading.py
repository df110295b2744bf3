"""Reading what is in a model's folder: whatever a library raises over it becomes one line for the user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import HarnessError, UsageError

POINTER = b"version https://git-lfs"
LONGEST = 400
"""Characters of a library's error that are shown."""


@contextmanager
def reading(name: str, what: str, hint: str = "") -> Iterator[None]:
    """Turn any error into a `UsageError` that names the model, the file or part, and the reason.

    Libraries raise whatever they like over a file they do not expect: this is the one place that says so. What is
    not about the file stays what it is: memory that ran out, and errors of the harness.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise
        raise UsageError(f"model {name}: {what} cannot be read: {reason(error)}{hint}") from error


def reason(error: BaseException) -> str:
    """A library's error on one line, with the name of its kind where it says little by itself."""
    words = " ".join(str(error).split())
    if isinstance(error, (KeyError, AttributeError, IndexError, AssertionError)) or not words:
        words = f"{type(error).__name__} {words}".strip()
    return words if len(words) <= LONGEST else words[:LONGEST] + " ..."


def json_file(path: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of a model, a byte order mark allowed. Raises UsageError for anything else."""
    with reading(name, path.name):
        content = json.loads(path.read_text("utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not an object")
    return content


def no_pointer(path: Path, name: str) -> None:
    """Refuse a file that git-lfs left in place of the real one."""
    with reading(name, path.name), path.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            raise UsageError(
                f"model {name}: {path.name} is a git-lfs pointer, not the file itself; run `git lfs pull` in "
                f"{path.parent}"
            )
