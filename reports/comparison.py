"""`comparison`: every run against the first, paired on common samples, corrected for the number of tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness import Report, UsageError
from harness.comparison import Comparison
from harness.comparison import Row as Compared
from harness.comparison.verdicts import comparable, compare_many
from harness.contracts import LoadedRun
from harness.documents import Cell, Column, Document, Mark, Row, Table

from ._rows import RUN, TASK, footers, run_cell, scaled

COLUMNS = (
    RUN,
    TASK,
    Column("n", "common samples", format=",d"),
    Column("baseline", "first run"),
    Column("ours", "this run"),
    Column("difference", "difference", format="+.1f"),
    Column("verdict", "verdict", kind="text"),
    Column("p", "p, Holm", format=".3g"),
    Column("wins", "better on", format=",d"),
    Column("losses", "worse on", format=",d"),
)
MANY = 16
"""Rows from which data sets stand apart from the averages over them."""
MARKS = {"better": Mark.BETTER, "worse": Mark.WORSE, "indistinguishable": Mark.SAME}


class ComparisonReport(Report):
    """Differences of every run to the first, sample by sample, with intervals and verdicts."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        if len(runs) < 2:
            return Document("comparison", "Comparison")
        baseline, *others = runs
        notes: list[str] = []
        try:
            found = compare_many(baseline, others)
        except UsageError:  # one of them has nothing in common with the first: it must not hide the rest
            kept, reasons = comparable(baseline, others)
            notes = [f"not compared with the first run: {reason}" for reason in reasons]
            if not kept:
                return Document("comparison", "Comparison", notes=notes)
            found = compare_many(baseline, kept)
        pairs = [(made, row) for made in found for row in made.rows]
        level = found[0].level
        remarks = list(dict.fromkeys(f"{made.run.label}: {c}" for made in found for c in made.caveats))
        told = [
            f"first run: {baseline.label}; a positive difference is better than it",
            "common samples: finished in both runs, and the same question; both means are over these alone",
            f"verdict: McNemar's exact test where scores are 0 or 1, else a paired permutation test; Holm's "
            f"correction over {found[0].tests} tests, level {1 - level:.2g}",
            "difference [interval]: what the row's test would not reject, corrected for the number of rows as its p "
            "is; it holds 0 where the verdict is indistinguishable",
            *notes,
            *remarks,
            *footers([baseline, *(made.run for made in found)]),
        ]
        return Document("comparison", "Comparison", list(_tables(baseline, pairs, told)))


def _tables(
    baseline: LoadedRun, pairs: Sequence[tuple[Comparison, Compared]], told: Sequence[str]
) -> Iterator[Table]:
    """One table; two where averages would be lost among many data sets, and then these are folded."""
    title = f"Compared with {baseline.label}, on common samples, × 100"
    families = {row.family for _, row in pairs if row.members}
    short = [p for p in pairs if p[1].members or p[1].family not in families]
    if len(pairs) <= MANY or len(short) == len(pairs):
        short = list(pairs)
    yield Table("comparison", title, COLUMNS, [Row(_cells(*p)) for p in short], told)
    rest = [p for p in pairs if p not in short]
    if rest:
        rows = [Row(_cells(*p), group=p[0].run.label) for p in rest]
        yield Table("comparison-tasks", f"{title}: data sets", COLUMNS, rows, told, folded=True)


def _cells(made: Comparison, row: Compared) -> dict[str, Cell]:
    mark = MARKS.get(row.verdict)
    return {
        "run": run_cell(made.run),
        "task": Cell(row.name),
        "n": Cell(row.n, n_ok=row.n, n=max(row.planned_a, row.planned_b)),
        "baseline": Cell(100 * row.mean_a),
        "ours": Cell(100 * row.mean_b),
        "difference": Cell(100 * row.difference, scaled(row.interval)),
        "wins": Cell(row.wins),
        "losses": Cell(row.losses),
        "p": Cell(row.p_adjusted),
        "verdict": Cell(row.verdict, marks=frozenset({mark} if mark else ())),
    }
