"""`scores`: a row for each run, a column for each task and average, published values beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from harness import Options, Report
from harness.comparison import PLAIN_MEAN, unbeaten
from harness.contracts import LoadedRun
from harness.documents import Cell, Document, Mark, Row, Table
from harness.results.summary import contexts_of
from harness.stats import average_interval

from ._columns import ScoreColumn, score_columns
from ._published import Published, published
from ._rows import RUN, Member, footers, run_cell, scaled, summary


class ScoresOptions(Options):
    """Options of `Scores`."""

    published: str | None = Field(
        None, description="published table to hold the scores against; by default the one most runs are in"
    )


class Scores(Report):
    """Scores x 100 of each run on each task, with averages by category, intervals, and published values."""

    Options = ScoresOptions
    options: ScoresOptions

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        columns = score_columns(runs)
        if not columns:
            return Document("scores", "Scores")
        summaries = {run.label: _with_plain_means(run, columns) for run in runs}
        values = {c.key: {r.label: _value(c, summaries[r.label]) for r in runs} for c in columns}
        first = unbeaten(runs, {c.key: c.weights for c in columns}, values)
        beside = published(runs, columns, self.options.published)
        rows = [_row(run, columns, summaries[run.label], first, beside) for run in runs]
        table = Table(
            "scores",
            "Scores × 100" + (f", beside {beside.title}" if beside else ""),
            [RUN, *(c.column for c in columns)],
            [*rows, *(beside.others if beside else ())],
            [*_means(columns), *_unequal(runs, columns), *(beside.footers if beside else ()), *footers(runs)],
        )
        return Document("scores", "Scores", [table])


def _row(
    run: LoadedRun,
    columns: Sequence[ScoreColumn],
    summed: Mapping[str, Any],
    first: Mapping[str, set[str]],
    beside: Published | None,
) -> Row:
    cells = {"run": run_cell(run)}
    for column in columns:
        value = _value(column, summed)
        if value is None:
            continue
        marks = {Mark.BEST} if run.label in first.get(column.key, ()) else set()
        n_ok, n = _counts(column, summed)
        cells[column.key] = Cell(
            100 * value,
            scaled(_interval(column, summed)),
            marks=frozenset(marks),
            published=beside.value(run, column) if beside else None,
            n_ok=n_ok,
            n=n,
        )
    return Row(cells)


def _with_plain_means(run: LoadedRun, columns: Sequence[ScoreColumn]) -> dict[str, Any]:
    """The run's summary, its averages with the plain mean of each family whose own averages leave tasks out."""
    summed = summary(run)
    averages = {family: dict(found) for family, found in summed["averages"].items()}
    known = {row["task"]: Member(run, row) for row in summed["tasks"] if row["score"] is not None}
    for column in columns:
        if column.short != PLAIN_MEAN or not column.weights.keys() <= known.keys():
            continue
        mine = [known[task] for task in column.weights]
        strata = [[m.score(r) for r in m.finished] for m in mine]
        found = averages.setdefault(column.family, {})
        found["values"] = {
            **found.get("values", {}),
            PLAIN_MEAN: sum(m.row["score"] for m in mine) / len(mine),
        }
        if interval := average_interval(strata, clusters=[contexts_of(m.finished) for m in mine]):
            found["intervals"] = {**(found.get("intervals") or {}), PLAIN_MEAN: interval}
    return {**summed, "averages": averages}


def _rows(summed: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {r["task"]: r for r in summed["tasks"]}


def _value(column: ScoreColumn, summed: Mapping[str, Any]) -> float | None:
    """The column's mean in a run, 0..1."""
    if column.is_average:
        found = summed["averages"].get(column.family, {}).get("values", {}).get(column.short)
    else:
        found = _rows(summed).get(column.key, {}).get("score")
    return None if found is None else float(found)


def _interval(column: ScoreColumn, summed: Mapping[str, Any]) -> Sequence[float] | None:
    found: Sequence[float] | None
    if column.is_average:
        found = (summed["averages"][column.family].get("intervals") or {}).get(column.short)
    else:
        found = _rows(summed)[column.key].get("interval")
    return found


def _counts(column: ScoreColumn, summed: Mapping[str, Any]) -> tuple[int, int]:
    """Samples that finished and that were asked for, over the column's tasks."""
    rows = _rows(summed)
    mine = [rows[task] for task in column.weights if task in rows]
    return sum(r["n_ok"] for r in mine), sum(r["n"] for r in mine)


def _means(columns: Sequence[ScoreColumn]) -> list[str]:
    """How each average is formed."""
    lines = []
    tasks = sum(not c.is_average for c in columns)
    lines.append(f"{'each column' if tasks > 1 else 'score'}: mean of the task's main score over its samples")
    for c in columns:
        if not c.is_average:
            continue
        sets = [t.partition("/")[2] for t in c.weights]
        equal = max(c.weights.values()) - min(c.weights.values()) < 1e-9
        how = "mean over" if equal else "weighted mean over"
        names = (
            ", ".join(sets)
            if len(sets) <= 4
            else f"{len(sets)} data sets, each counted once" * equal or "sets"
        )
        lines.append(f"{c.family} {c.short}: {how} {names}; interval from the spread within each data set")
    return lines


def _unequal(runs: Sequence[LoadedRun], columns: Sequence[ScoreColumn]) -> list[str]:
    """A line for each task that runs finished different samples of: their means are not comparable as they stand."""
    lines = []
    for column in columns:
        if column.is_average:
            continue
        sets = [
            {name for name, r in run.of_task(column.key).items() if r.finished}
            for run in runs
            if run.task(column.key)
        ]
        common = set.intersection(*sets) if sets else set()
        if any(found != common for found in sets):
            lines.append(
                f"{column.key}: the runs finished different samples, {len(common)} of them in all runs; the "
                "comparison is over common samples only"
            )
    return lines
