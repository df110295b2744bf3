"""Comparisons as a table, the same for ``harness compare`` and for reports."""

from __future__ import annotations

from collections.abc import Sequence

from ..contracts.run import LoadedRun
from ..documents.tables import Cell, Column, Mark, Table
from ..documents.tables import Row as TableRow
from .rows import Comparison, Row

MARKS = {"better": Mark.BETTER, "worse": Mark.WORSE, "indistinguishable": Mark.SAME}
MANY = 16
"""Rows from which data sets stand apart from the averages over them."""
COLUMNS = (
    Column("run", "run", kind="name"),
    Column("task", "task", kind="name"),
    Column("verdict", "the run is", kind="text"),
    Column("difference", "difference", format="+.1f"),
    Column("n", "n", format=",d"),
    Column("baseline", "baseline", detail=1),
    Column("ours", "run", detail=1),
    Column("p", "p, Holm", detail=2),
    Column("p_raw", "p", detail=3),
    Column("wins", "better on", format=",d", detail=3),
    Column("losses", "worse on", format=",d", detail=3),
)


def run_cell(run: LoadedRun) -> Cell:
    """The run's label, marked if the method sees the question or something must be said of the run."""
    marks = {Mark.SEES_QUESTION} if run.sees_question else set()
    if run.warnings:
        marks.add(Mark.WARNED)
    return Cell(run.label, marks=frozenset(marks))


def comparison_tables(found: Sequence[Comparison], told: Sequence[str] = ()) -> list[Table]:
    """One table; two where averages would be lost among many data sets, and then these are folded.

    Parameters
    ----------
    told
        Lines that stand below, after those on how it was tested.
    """
    pairs = [(made, row) for made in found for row in made.rows]
    baseline = found[0].baseline
    families = {row.family for _, row in pairs if row.members}
    short = [p for p in pairs if p[1].members or p[1].family not in families]
    if len(pairs) <= MANY or len(short) == len(pairs):
        short = pairs
    title = f"Compared with {baseline.label}, on common samples, × 100"
    notes = [*how_tested(found), *told, *caveats(found)]
    tables = [Table("comparison", title, COLUMNS, [_row(*p) for p in short], notes, grouped="run")]
    chosen = set(map(id, (row for _, row in short)))
    if rest := [p for p in pairs if id(p[1]) not in chosen]:
        rows = [_row(*p) for p in rest]
        tables.append(
            Table("comparison-tasks", f"{title}: data sets", COLUMNS, rows, notes, True, grouped="run")
        )
    return tables


def how_tested(found: Sequence[Comparison]) -> list[str]:
    """How a verdict comes about, in one line each."""
    made = found[0]
    tests = (
        f"{made.tests} test{'s' * (made.tests != 1)}"
        if made.tests
        else "no test: every row has too few samples"
    )
    return [
        "common samples: finished in both runs, and the same question; n and both means are over these alone",
        "difference: run less baseline; its interval is what the row's test would not reject, corrected for the number "
        "of rows as its p is: it holds 0 where the verdict is indistinguishable",
        "p: McNemar's exact test where scores are 0 or 1, else a paired permutation test by sign flips "
        f"({made.resamples:,} drawn where there are too many to try all); Holm's correction over {tests}; "
        f"below {1 - made.level:.2g} the run is better or worse",
    ]


def caveats(found: Sequence[Comparison]) -> list[str]:
    """What a reader must know before believing a verdict: one line for all runs that it holds of."""
    said: dict[str, list[str]] = {}
    for made in found:
        for line in made.caveats:
            said.setdefault(line, []).append(made.run.label)
    return [
        f"! {line}" if len(found) == 1 or any(label in line for label in who) else f"! {_some(who)}: {line}"
        for line, who in said.items()
    ]


def _some(labels: Sequence[str], most: int = 4) -> str:
    if len(labels) <= most + 1:
        return ", ".join(labels)
    return ", ".join(labels[:most]) + f" and {len(labels) - most} more"


def p_text(p: float | None) -> str:
    """A p-value as it is shown: a dash for None, never 0."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _row(made: Comparison, row: Row) -> TableRow:
    mark = MARKS.get(row.verdict)
    name = row.name if row.metric == "score" or row.members else f"{row.name} ({row.metric})"
    interval = None if row.interval is None else (100 * row.interval[0], 100 * row.interval[1])
    counted = str(row.n) if row.whole else f"{row.n} of {max(row.planned_a, row.planned_b)}"
    return TableRow(
        {
            "run": run_cell(made.run),
            "task": Cell(row.name, text=name),
            "n": Cell(row.n, text=counted, n_ok=row.n, n=max(row.planned_a, row.planned_b)),
            "baseline": Cell(100 * row.mean_a),
            "ours": Cell(100 * row.mean_b),
            "difference": Cell(100 * row.difference, interval),
            "verdict": Cell(row.verdict, marks=frozenset({mark} if mark else ())),
            "p_raw": Cell(row.p, text=p_text(row.p)),
            "p": Cell(row.p_adjusted, text=p_text(row.p_adjusted)),
            "wins": Cell(row.wins),
            "losses": Cell(row.losses),
        },
        group=f"{made.run.label} against {made.baseline.label}",
    )
