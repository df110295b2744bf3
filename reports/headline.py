"""`headline`: the answer first, for each family of tasks."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Report
from harness.comparison import headline
from harness.contracts import LoadedRun
from harness.documents import Document

from ._compared import compared


class HeadlineReport(Report):
    """For each family of tasks who is better than the first run, by how much, how sure, and at what cost."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        made = headline(runs, compared(runs) if len(runs) > 1 else None)
        title = f"Against {made.baseline}" if len(runs) > 1 else "What was found"
        notes = [f"not compared: {reason}" for reason in made.left_out]
        return Document("headline", title, notes=notes, answers=made.answers())
