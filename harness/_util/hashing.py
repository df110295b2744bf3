"""Which weights exactly: SHA-256 of model files, remembered so that gigabytes are not read at each start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .files import cache_dir

# Where the file came from and who wrote it; the network is the same whatever they say.
_VOLATILE = ("transformers_version", "_name_or_path", "_model_name_or_path")


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file as it is now."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, remembered in the cache folder by path, size and times (ns).

    Both times: that of modification can be set back by whoever changes a file (``cp -p``, ``rsync -t``), that of the
    last change of its entry cannot. A cache that cannot be written only costs time: the hash is computed again at
    the next start.
    """
    real = path.resolve()
    stat = real.stat()
    key = hashlib.sha256(
        f"{real}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_ino}".encode()
    ).hexdigest()
    note = cache_dir() / "hashes" / key
    with contextlib.suppress(OSError):
        known = note.read_text()
        if len(known) == 64:
            return known
    found = digest(real)
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed, because another process may read the note at this moment.
        draft = note.with_name(f"{key}.{os.getpid()}")
        draft.write_text(found)
        draft.replace(note)
    return found


def content_hash(folder: Path, weights: list[Path]) -> str:
    """SHA-256 (hex) over a model's configuration and the names and contents of its weight files.

    The configuration counts by meaning, not by layout: key order, and the keys that only say which version
    of transformers wrote it, make no difference; any other change does.

    Parameters
    ----------
    folder
        Holds ``config.json``.
    weights
        The safetensors files, in any order.
    """
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    meaning = {key: value for key, value in config.items() if key not in _VOLATILE}
    combined = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for file in sorted(weights, key=lambda path: path.name):
        combined.update(f"\0{file.name}\0{file_sha256(file)}".encode())
    return combined.hexdigest()
