"""Every run against the first, tested once for all reports that show it."""

from __future__ import annotations

from collections.abc import Sequence

from harness import UsageError
from harness.comparison import Comparison, compare_all
from harness.contracts import LoadedRun

Compared = tuple[list[Comparison], list[str]]
_LAST: list[tuple[list[LoadedRun], Compared]] = []
"""The runs that were compared last and what came of it: of one page several reports show the same."""


def compared(runs: Sequence[LoadedRun]) -> Compared:
    """Comparisons with the first run, and why a run is not among them; all reasons if none is."""
    if _LAST and len(_LAST[0][0]) == len(runs) and all(x is y for x, y in zip(_LAST[0][0], runs)):
        return _LAST[0][1]
    baseline, *others = runs
    try:
        found = compare_all(baseline, others)
    except UsageError as error:
        found = [], [str(error)]
    _LAST[:] = [(list(runs), found)]
    return found
