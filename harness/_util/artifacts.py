"""Small files methods compute once and keep: looked up in the user's cache, then in what packages ship."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from . import entry_points
from .files import cache_dir, cache_writes, write_whole


def folders() -> list[Path]:
    """The folders that installed packages name by a ``harness._util.artifacts`` entry point."""
    found = []
    for point in (point for points in entry_points.claims("artifacts").values() for point in points):
        try:
            found.append(Path(point.load()()))
        except Exception as error:
            raise UsageError(
                f"artifacts of {entry_points.origin(point)} cannot be found: {type(error).__name__}: {error}; "
                "uninstall it or get a version that works"
            ) from error
    return found


def find(kind: str, name: str) -> Path | None:
    """The file ``<kind>/<name>`` in the cache, or in one of `folders`."""
    places = (folder / kind / name for folder in (cache_dir(), *folders()))
    return next((path for path in places if path.is_file()), None)


def store(kind: str, name: str, text: str) -> Path:
    """Write ``<kind>/<name>`` into the cache, whole or not at all; returns its path."""
    path = cache_dir() / kind / name
    with cache_writes():
        write_whole(path, text)
    return path
