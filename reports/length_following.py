"""`length_following`: words asked for against words written, as Figure 3 of SelfLong has them."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Report
from harness.contracts import LoadedRun, SampleRecord
from harness.documents.document import Document
from harness.documents.figures import Axis, Lines, Series
from harness.documents.tables import Cell, Column, Row, Table
from harness.stats.bootstrap import confidence_interval

from ._rows import RUN, Member, footers, members, run_cell, scaled

TASK = "length_following"
BINS = 8
"""Points of a line at most: samples asked for similar lengths are taken together."""


class LengthFollowing(Report):
    """Words written for words asked, a line for each run, and the mean error."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        """One table and one figure; nothing without the task, or where the answers are not kept."""
        found = {m.run.label: (m, pairs) for run in runs for m in members(run) if (pairs := _pairs(m))}
        if not found:
            return Document("length_following", "Length following", [], [])
        title = "words written for words asked"
        mine = [m.run for m, _ in found.values()]
        columns = [RUN, Column("error", "mean error", "%"), Column("ratio", "written / asked", format=".2f")]
        rows = []
        for member, pairs in found.values():
            errors = [min(1.0, abs(written - asked) / asked) for asked, written in pairs]
            ratios = [written / asked for asked, written in pairs]
            cells = {
                "run": run_cell(member.run),
                "error": Cell(
                    100 * _mean(errors), scaled(confidence_interval(errors)), n_ok=len(pairs), n=len(pairs)
                ),
                "ratio": Cell(_mean(ratios), confidence_interval(ratios)),
            }
            rows.append(Row(cells))
        every = sorted({asked for _, pairs in found.values() for asked, _ in pairs})
        note = "Error: |written - asked| / asked, at most 100 %. Words are what stands between blanks"
        table = Table("length-following", f"{TASK}: {title}", columns, rows, [note, *footers(mine)])
        straight = Series("as asked", [(float(n), float(n), None) for n in (every[0], every[-1])])
        figure = Lines(
            "figure-length-following",
            f"{TASK}: {title}",
            "Each line is a run, with the band of its 95 % intervals; the straight one is what was asked.",
            Axis("words asked"),
            Axis("words written"),
            [straight, *(_series(member.run, pairs) for member, pairs in found.values())],
        )
        return Document("length_following", "Length following", [table], [figure])


def _pairs(member: Member) -> list[tuple[int, int]]:
    """(asked, written) words of the finished samples whose answers are there, by rising length."""
    if member.task != TASK:
        return []
    return sorted(pair for record in member.finished if (pair := _pair(record)) is not None)


def _pair(record: SampleRecord) -> tuple[int, int] | None:
    asked = record.metadata.get("asked_words")
    if asked is None or record.prediction is None:
        return None
    return int(asked), len(record.prediction.split())


def _series(run: LoadedRun, pairs: Sequence[tuple[int, int]]) -> Series:
    """Means of neighbouring samples, about as many in each."""
    size = -(-len(pairs) // BINS)
    groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    points = []
    for group in groups:
        written = [float(w) for _, w in group]
        points.append((_mean([float(a) for a, _ in group]), _mean(written), confidence_interval(written)))
    return Series(run.label, points, run.sees_question)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
