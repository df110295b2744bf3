"""Small files methods compute once and keep: looked up in the user's cache, then in what packages ship."""

from __future__ import annotations

from pathlib import Path

from . import registry
from .errors import UsageError
from .paths import cache_dir, cache_writes, write_whole


def find(kind: str, name: str) -> Path | None:
    """The file ``<kind>/<name>`` in the cache or in a folder named by a ``harness.artifacts`` entry point."""
    folders = [cache_dir()]
    for point in registry.entry_points("artifacts").values():
        try:
            folders.append(Path(point.load()()))
        except Exception as error:
            raise UsageError(
                f"artifacts of {registry.origin(point)} cannot be found: {type(error).__name__}: {error}; "
                "uninstall it or get a version that works"
            ) from error
    return next((path for folder in folders if (path := folder / kind / name).is_file()), None)


def store(kind: str, name: str, text: str) -> Path:
    """Write ``<kind>/<name>`` into the cache, whole or not at all; returns its path."""
    path = cache_dir() / kind / name
    with cache_writes():
        write_whole(path, text)
    return path
