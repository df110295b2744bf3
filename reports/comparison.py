"""`comparison`: every run against the first, paired on common samples, corrected for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Report
from harness.comparison.forest import forest
from harness.comparison.tables import comparison_tables
from harness.contracts import LoadedRun
from harness.documents import Document

from ._compared import compared
from ._rows import footers


class ComparisonReport(Report):
    """Differences of every run to the first, sample by sample, with intervals and verdicts."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        if len(runs) < 2:
            return Document("comparison", "Comparison")
        found, reasons = compared(runs)
        notes = [f"not compared with the first run: {reason}" for reason in reasons]
        if not found:
            return Document("comparison", "Comparison", notes=notes)
        told = footers([runs[0], *(made.run for made in found)])
        return Document(
            "comparison", "Comparison", comparison_tables(found, told), [forest(found)], notes=notes
        )
