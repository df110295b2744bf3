"""Whether a run's folder, and the files that are added to, are still what this process has left there."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UsageError


class Standing:
    """What was last seen of a folder and of its growing files.

    Parameters
    ----------
    folder
        The folder; nothing is held against it before `settle`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: tuple[int, int] | None = None
        self._written: dict[Path, tuple[int, int, int]] = {}

    def settle(self) -> None:
        """From now on the folder is where it is now."""
        told = self._folder.stat()
        self._place = (told.st_dev, told.st_ino)
        self._written.clear()

    def forget(self, path: Path | None = None) -> None:
        """A file, or every file, was replaced by this process itself."""
        if path is None:
            self._written.clear()
        else:
            self._written.pop(path, None)

    def check(self, path: Path) -> None:
        """Raise UsageError if the folder, or a file that was added to, is no more what it was."""
        if self._place is None:
            return
        try:
            folder = self._folder.stat()
            same = (folder.st_dev, folder.st_ino) == self._place
            if same and path in self._written:
                file = path.stat()
                *known, size = self._written[path]
                same = [file.st_dev, file.st_ino] == known and file.st_size >= size
        except FileNotFoundError:
            same = False
        if not same:
            raise self._gone()

    def added(self, path: Path, descriptor: int, size: int) -> None:
        """So many bytes were added to a file. Raises UsageError if it was cut between the look and the writing."""
        told, before = os.fstat(descriptor), self._written.get(path)
        self._written[path] = (told.st_dev, told.st_ino, told.st_size)
        if before and told.st_size < before[2] + size:
            raise self._gone()

    def _gone(self) -> UsageError:
        return UsageError(
            f"{self._folder} was removed, replaced or cut while the run was at work; nothing more is written there. "
            "The same command goes on with what is there"
        )
