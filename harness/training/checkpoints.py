"""Checkpoints that are whole."""

from __future__ import annotations

import json
from pathlib import Path

from .._util.hashing import digest

WHOLE = "whole.json"
"""Written last into a checkpoint, with the digest of each of its files: without it, it is not used."""


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint in `folder` that was written to its end and is as it was written; else None."""
    found = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdecimal() and is_whole(path):
            found.append((int(number), path))
    return max(found)[1] if found else None


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is as it was written."""
    try:
        digests = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
        return bool(digests) and all(digest(checkpoint / name) == d for name, d in digests.items())
    except (OSError, ValueError, AttributeError):
        return False
