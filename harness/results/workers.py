"""How many processes of this machine work on one folder: each holds a byte of one file locked while it lives."""

from __future__ import annotations

import fcntl
from typing import IO

MOST = 256
"""So many are told apart; more share the last place."""


class Workers:
    """The processes of this machine at a folder, this one included.

    Parameters
    ----------
    file
        Open for reading and writing, and opened nowhere else in this process: closing it lets go of the place.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._place = MOST - 1
        for place in range(MOST):
            if self._try(fcntl.LOCK_EX, place):
                self._place = place
                break

    def count(self) -> int:
        """How many there are now. A look at the places of others takes none of them."""
        return 1 + sum(self._taken(place) for place in range(MOST) if place != self._place)

    def _taken(self, place: int) -> bool:
        if not self._try(fcntl.LOCK_SH, place):
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
        return False

    def _try(self, how: int, place: int) -> bool:
        try:
            fcntl.lockf(self._file, how | fcntl.LOCK_NB, 1, place)
        except OSError:
            return False
        return True
