"""`cost`: what each score cost in memory and time, as measured, and score against cost as a figure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import Report
from harness._util.units import GIB, MIB
from harness.comparison import PLAIN_MEAN
from harness.contracts import LoadedRun, SampleRecord
from harness.contracts.phases import PHASES
from harness.documents import Cell, Column, Document, Mark, Row, Table
from harness.documents.figures import Axis, Figure, Point, Scatter, positive
from harness.results.summary import contexts_of
from harness.stats import clustered

from . import _question_cost
from ._columns import ScoreColumn, score_columns
from ._resampling import RESAMPLES, interval, resampled
from ._rows import RUN, Member, footers, members, run_cell, scaled, summary

COLUMNS = (
    RUN,
    Column("kv_mib", "KV", "MiB", spread=False),
    Column("compression", "ratio", format=".2f", spread=False),
    Column("prompt_tokens", "tokens", format=",.0f", intervals=False, detail=1),
    *(Column(f"{phase}_s", phase, "s", format=".2f", detail=2, spread=False) for phase in PHASES),
    Column("seconds", "total", "s", format=".2f", spread=False),
    Column("peak_gib", "peak", "GiB", format=".2f"),
    Column("n", "samples", kind="text"),
)
_BUDGET = re.compile(r" budget=\S+")
MANY = 4
"""Tasks from which families are shown first."""
AXES = (
    ("kv", "kv_mib", Axis("KV cache when the answer begins", "MiB")),
    ("time", "seconds", Axis("time for a sample", "s")),
)


class Cost(Report):
    """KV memory, measured compression, seconds by phase and peak memory, and score against cost."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        found = {run.label: members(run) for run in runs}
        known = {label: {m.task: measured(m) for m in mine} for label, mine in found.items()}
        tasks = list(dict.fromkeys(m.task for mine in found.values() for m in mine))
        rows = [
            Row(_cells([member], known[label][task]), group=task)
            for task in tasks
            for label, mine in found.items()
            for member in mine
            if member.task == task
        ]
        if not rows:
            return Document("cost", "Cost")
        notes = [
            "ratio: prompt tokens for each KV entry the answer began from, over all samples; seen in the model's "
            "forward pass unless marked",
            "KV, tokens and seconds: means over the finished samples, each sample's share of its batch; peak: "
            "the highest",
            f"intervals of costs: bootstrap over contexts, {RESAMPLES:,} resamples, widened where they are few",
        ]
        told = [*notes, *_machines(runs), *footers(runs)]
        tables = [Table("cost", "Cost of a sample", COLUMNS, rows, told)]
        if len(tasks) > MANY:
            goals = goals_of(runs)
            means = [
                f"{g.family}: mean of its {len(g.weights)} tasks, each counting as much as it does in the score"
                for g in goals
                if len(g.weights) > 1
            ]
            whole = Table(
                "cost",
                "Cost of a sample, by family",
                COLUMNS,
                _families(goals, found, known),
                [*means, *told],
            )
            tables = [
                whole,
                replace(tables[0], name="cost-tasks", title="Cost of a sample, by task", folded=True),
            ]
        asked, curves = _question_cost.tables(runs, found)
        return Document("cost", "Cost", [*tables, *asked], [*_figures(runs, known), *curves])


@dataclass(frozen=True)
class Measured:
    """Mean costs over finished samples, in the units of the table, and the mean score x 100.

    `value` has each quantity that every sample knows, `means` its resampled means; `n` is the number of
    samples, in a family that of its smallest task, and `contexts` that of the texts they are on.
    """

    n: int
    contexts: int
    value: Mapping[str, float]
    means: Mapping[str, NDArray[np.float64]]

    def cell(self, name: str) -> Cell:
        if name not in self.value:
            return Cell()
        return Cell(self.value[name], interval(self.value[name], self.means[name], self.contexts))

    def ratio(self, marks: frozenset[Mark]) -> Cell:
        """All prompt tokens over all KV entries that stood for them, both resampled together."""
        if "read" not in self.value or "kept" not in self.value:
            return Cell()
        value = self.value["read"] / self.value["kept"]
        return Cell(
            value, interval(value, self.means["read"] / self.means["kept"], self.contexts), marks=marks
        )


def _phase(name: str) -> Callable[[SampleRecord], Any]:
    return lambda r: getattr(r.cost, f"{name}_seconds")


QUANTITIES: Mapping[str, Callable[[SampleRecord], Any]] = {
    "kv_mib": lambda r: r.cost.kv_bytes and r.cost.kv_bytes / MIB,
    "seconds": lambda r: r.cost.seconds,
    **{f"{phase}_s": _phase(phase) for phase in PHASES},
    "prompt_tokens": lambda r: r.prompt_tokens,
    "read": lambda r: r.prompt_tokens and r.prompt_tokens - 1,
    "kept": lambda r: r.measured.kv_tokens or None,
}


def measured(member: Member) -> Measured:
    """What is known of every finished sample of a task; a quantity that one sample lacks is left out."""
    records = member.finished
    if not records:
        return Measured(0, 0, {}, {})
    values = {"score": np.array([100 * member.score(r) for r in records])}
    for name, pick in QUANTITIES.items():
        found = [pick(r) for r in records]
        if None not in found:
            values[name] = np.array(found, dtype=np.float64)
    value = {name: float(column.mean()) for name, column in values.items()}
    shared = contexts_of(records)
    on = len(set(*clustered([records], [shared])))
    return Measured(len(records), on, value, resampled(values, shared))


def together(goal: ScoreColumn, known: Mapping[str, Measured]) -> Measured | None:
    """A family's means: those of its tasks, weighted as its average weighs them; None if one is missing."""
    strata = [known.get(task) for task in goal.weights]
    found = [s for s in strata if s is not None and s.n]
    if len(found) < len(strata):
        return None
    weights = np.array(list(goal.weights.values()))
    names = [name for name in found[0].value if all(name in s.value for s in found)]
    return Measured(
        min(s.n for s in found),
        min(s.contexts for s in found),
        {name: float(weights @ [s.value[name] for s in found]) for name in names},
        {name: weights @ np.array([s.means[name] for s in found]) for name in names},
    )


def _families(
    goals: Sequence[ScoreColumn],
    found: Mapping[str, Sequence[Member]],
    known: Mapping[str, Mapping[str, Measured]],
) -> list[Row]:
    """A row for each family and run."""
    rows = []
    for goal in goals:
        for label, mine in found.items():
            parts = [m for m in mine if m.task in goal.weights]
            costs = together(goal, known[label])
            if costs is not None:
                rows.append(Row(_cells(parts, costs), group=goal.column.heading))
    return rows


def _cells(parts: Sequence[Member], costs: Measured) -> dict[str, Cell]:
    """The cells of one or several tasks of a run."""
    rows = [m.row for m in parts]
    n_ok, n = (sum(row[name] for row in rows) for name in ("n_ok", "n"))
    declared = frozenset({Mark.DECLARED} if any(row.get("verified") is False for row in rows) else ())
    remote = bool(rows) and all(row.get("remote") for row in rows)
    peak = max((row.get("peak_bytes") or 0 for row in rows), default=0)
    cells = {
        "run": run_cell(parts[0].run),
        "compression": costs.ratio(declared),
        "n": Cell(f"{n_ok}/{n}", n_ok=n_ok, n=n),
        **{
            name: costs.cell(name)
            for name in ("kv_mib", "prompt_tokens", "seconds", *(f"{p}_s" for p in PHASES))
        },
    }
    if peak:
        cells["peak_gib"] = Cell(peak / GIB)
    if remote:  # the answers came from elsewhere: nobody could measure these
        unknown = (c.key for c in COLUMNS if cells.get(c.key, Cell()) == Cell())
        return {**cells, **{key: Cell(text="?") for key in unknown}}
    return cells


def _machines(runs: Sequence[LoadedRun]) -> list[str]:
    """Where the seconds were measured; said apart if the runs were not on one kind of machine."""
    machines: dict[str, list[str]] = {}
    for run in runs:
        facts = run.content.get("environment", {})
        where = facts.get("gpu") or f"CPU, {facts.get('threads', '?')} threads"
        machines.setdefault(f"{where}, {run.identity['dtype']}", []).append(run.label)
    if len(machines) == 1:
        return [f"measured on: {next(iter(machines))}"]
    listed = "; ".join(f"{where} ({', '.join(who)})" for where, who in machines.items())
    return [f"measured on different machines, so seconds do not compare: {listed}"]


def _figures(runs: Sequence[LoadedRun], known: Mapping[str, Mapping[str, Measured]]) -> list[Figure]:
    """For each family and each kind of cost a figure, if at least one run has both."""
    figures: list[Figure] = []
    curves = curves_of(runs)
    joined = "Points of runs that differ in their budget alone are joined. " if curves else ""
    for goal in goals_of(runs):
        for name, key, axis in AXES:
            points = [
                replace(p, curve=curves.get(run.label, ""))
                for run in runs
                if (p := _point(run, goal, known[run.label], key)) is not None
            ]
            if points:
                figures.append(
                    Scatter(
                        f"pareto-{goal.family}-{name}",
                        f"{goal.column.heading}: score against {axis.heading}",
                        "Each point is a run, with the 95 % intervals of its score and its cost; hollow: it sees "
                        f"the question. {joined}The {'stepped ' if joined else ''}line joins the runs that no "
                        "cheaper run outscores; up and to the left is better.",
                        replace(axis, log=positive([p.x for p in points])),
                        Axis("score × 100"),
                        points,
                    )
                )
    return figures


def curves_of(runs: Sequence[LoadedRun]) -> dict[str, str]:
    """By label, for runs that differ from others in their budget alone, the name they have in common."""
    same: dict[str, list[LoadedRun]] = {}
    for run in runs:
        same.setdefault(json.dumps({**run.identity, "budget": None}, sort_keys=True), []).append(run)
    found: dict[str, str] = {}
    for several in (runs for runs in same.values() if len(runs) > 1):
        names = [_BUDGET.sub("", run.label) for run in several]
        name = min(names, key=len) if min(names, key=len) not in found.values() else several[0].label
        found.update({run.label: name for run in several})
    return found


def goals_of(runs: Sequence[LoadedRun]) -> list[ScoreColumn]:
    """For each family of the runs what speaks for it."""
    columns = score_columns(runs)
    return [
        _goal([c for c in columns if c.family == family])
        for family in dict.fromkeys(c.family for c in columns)
    ]


def _goal(columns: Sequence[ScoreColumn]) -> ScoreColumn:
    """What speaks for a family: the average over most of its data sets, or their plain mean."""
    if averages := [c for c in columns if c.is_average]:
        return max(averages, key=lambda c: len(c.weights))
    if len(columns) == 1:
        return columns[0]
    family = columns[0].family
    weights = {c.key: 1 / len(columns) for c in columns}
    return ScoreColumn(f"{family}:mean", family, "mean", weights, Column("mean", f"{family} {PLAIN_MEAN}"))


def _point(run: LoadedRun, goal: ScoreColumn, known: Mapping[str, Measured], key: str) -> Point | None:
    """The run's point, if something is known of each of the tasks."""
    found = together(goal, known)
    if found is None or key not in found.value:
        return None
    x, y = found.cell(key), score_interval(run, goal) or found.cell("score").interval
    return Point(run.label, found.value[key], found.value["score"], x.interval, y, run.sees_question)


def score_interval(run: LoadedRun, goal: ScoreColumn) -> tuple[float, float] | None:
    """The interval that the table of scores shows; None where only this report forms the average."""
    summed = summary(run)
    if goal.is_average:
        family = summed["averages"].get(goal.family, {})
        return scaled((family.get("intervals") or {}).get(goal.short))
    return next((scaled(r.get("interval")) for r in summed["tasks"] if r["task"] == goal.key), None)
