"""A suite as it is carried out: a line for each row as it begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.text import Text

from .progress import Display, FitDisplay, RunDisplay
from .safe_text import visible


def duration(seconds: float | None) -> str:
    """``45 s``, ``7 min``, ``3.5 h``; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Labelled(Protocol):
    """A row of a suite, as far as it is shown."""

    @property
    def label(self) -> str: ...


class Ended(Protocol):
    """How a row ended."""

    @property
    def status(self) -> str: ...

    @property
    def why(self) -> str | None: ...


class SuiteDisplay(Display):
    """A line on standard error for each row as it begins and ends, and the live view of its run between."""

    @contextmanager
    def fit(self, name: str) -> Iterator[FitDisplay]:
        self._say(f"fit {name}")
        with FitDisplay() as view:
            yield view

    @contextmanager
    def run(self, row: Labelled, number: int, total: int) -> Iterator[RunDisplay]:
        self._say(f"run {number} of {total}: {row.label}")
        with RunDisplay() as view:
            yield view

    def done(self, row: Labelled, outcome: Ended, seconds: float) -> None:
        how = {"ok": f"done in {duration(seconds)}"}.get(outcome.status, f"{outcome.status}: {outcome.why}")
        self._say(f"{row.label}: {how}")

    def _say(self, text: str) -> None:
        # Not through the bars: a log of a suite that ran overnight must tell how far it came.
        self.console.print(Text(visible(text)), highlight=False, soft_wrap=True)
