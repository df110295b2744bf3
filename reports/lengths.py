"""`lengths`: score by length of the prompt. `grid`: score by length and depth of the needle."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness import Report
from harness.contracts import LoadedRun, SampleRecord
from harness.documents import Axis, Cell, Column, Document, HeatMap, Lines, Row, Series, Table
from harness.results.summary import contexts_of
from harness.stats import confidence_interval

from ._rows import RUN, Member, footers, members, run_cell, scaled

DISTINCT = 16
"""Up to so many lengths of a task's own are shown as they are; more are put into bins of doubling size."""
FIRST_BIN = 1024
APART = 4
"""Tasks of a family up to which each has a figure of its own; the samples of more are pooled."""

Place = TypeVar("Place")
Scored = tuple[float, Hashable]
"""A score 0..1, and what the sample shares with others: its context."""


@dataclass(frozen=True)
class Scale:
    """How the lengths of a task are told: the place of a record on the axis, and what the axis says."""

    heading: str
    place: Callable[[SampleRecord], float | None]
    label: Callable[[float], str]


class Lengths(Report):
    """Mean score at each length, a line for each run."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        tables, figures = [], []
        for part in _parts(runs):
            cells = {label: _by(mine, part.scale.place) for label, mine in part.members.items()}
            asked = {label: _asked_at(mine, part.scale.place) for label, mine in part.members.items()}
            places = sorted({place for by in asked.values() for place in by})
            if len(places) < 2:
                continue
            name = f"lengths-{part.name.replace('/', '-')}"
            title = f"{part.name}: score × 100 by {part.scale.heading}"
            shown = [run for run in runs if run.label in part.members]
            columns = [RUN, *(Column(f"{p:g}", part.scale.label(p)) for p in places)]
            rows = [
                Row(
                    {
                        "run": run_cell(run),
                        **{
                            f"{p:g}": _cell(cells[run.label].get(p, []), n)
                            for p, n in asked[run.label].items()
                        },
                    }
                )
                for run in shown
            ]
            tables.append(Table(name, title, columns, rows, [part.note, *footers(shown)], folded=True))
            figures.append(
                Lines(
                    f"figure-{name}",
                    title,
                    f"Each line is a run, with the band of its 95 % intervals. {part.note}.",
                    Axis(part.scale.heading, log=True),
                    Axis("score × 100"),
                    [_series(run, cells[run.label]) for run in shown],
                    [(p, part.scale.label(p)) for p in places],
                )
            )
        return Document("lengths", "Score by length", tables, figures)


@dataclass(frozen=True)
class _Part:
    """What is shown together: a task, or the pooled samples of a family of many."""

    name: str
    members: dict[str, list[Member]]
    scale: Scale
    note: str


def _parts(runs: Sequence[LoadedRun]) -> list[_Part]:
    found = [m for run in runs for m in members(run)]
    tasks = list(dict.fromkeys(m.task for m in found))
    parts = []
    for family in dict.fromkeys(t.partition("/")[0] for t in tasks):
        mine = [t for t in tasks if t.partition("/")[0] == family]
        groups = [(t, [t]) for t in mine] if len(mine) <= APART else [(family, mine)]
        for name, wanted in groups:
            chosen = [m for m in found if m.task in wanted]
            by_run: dict[str, list[Member]] = {}
            for m in chosen:
                by_run.setdefault(m.run.label, []).append(m)
            note = f"Mean {chosen[0].row['metric']} over the finished samples of each length"
            if len(wanted) > 1:
                note += f", those of {len(wanted)} tasks pooled: which tasks are long differs, so this is no average"
            parts.append(_Part(name, by_run, _scale(chosen), note))
    return parts


class Grid(Report):
    """Mean score over length and depth, a heat map for each run and task that asks for both."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        figures, tables = [], []
        for member in (m for run in runs for m in members(run)):
            cells = _by([member], _length_and_depth)
            asked = _asked_at([member], _length_and_depth)
            lengths = sorted({length for length, _ in asked})
            depths = sorted({depth for _, depth in asked})
            if len(depths) < 2:
                continue
            grid = [[cells.get((length, depth), []) for length in lengths] for depth in depths]
            task, run = member.task, member.run
            name = f"grid-{task.replace('/', '-')}-{run.hash}"
            title = f"{run.label}: {task}, {member.row['metric']} × 100"
            figures.append(
                HeatMap(
                    name,
                    title,
                    "Means over the finished samples of each length (tokens, across) and depth (percent, down).",
                    Axis("length", "tokens"),
                    Axis("depth", "%"),
                    [f"{length:,.0f}" for length in lengths],
                    [f"{depth:g}" for depth in depths],
                    [[_mean(v) if v else None for v in row] for row in grid],
                    [[len(v) for v in row] for row in grid],
                )
            )
            columns = [
                Column("depth", "depth", "%", kind="name", format="g"),
                *(Column(f"{length:g}", f"{length:,.0f}") for length in lengths),
            ]
            rows = [
                Row(
                    {
                        "depth": Cell(depth),
                        **{
                            f"{n:g}": _cell(v, asked.get((n, depth), 0))
                            for n, v in zip(lengths, row)
                            if asked.get((n, depth))
                        },
                    }
                )
                for depth, row in zip(depths, grid)
            ]
            tables.append(Table(name, title, columns, rows, footers([run]), True))
        return Document("grid", "Length and depth", tables, figures)


def _scale(found: Sequence[Member]) -> Scale:
    """The task's own lengths if they are few, else the prompt's tokens before truncation, in bins."""
    own = [r.metadata.get("length") for m in found for r in m.run.of_task(m.task).values()]
    if own and None not in own and len(set(own)) <= DISTINCT:
        return Scale("length, tokens", lambda r: float(r.metadata["length"]), lambda v: f"{v:,.0f}")
    return Scale("tokens of the whole prompt", _bin, _bin_name)


def _bin(record: SampleRecord) -> float | None:
    """The upper bound of the bin of doubling size that the prompt, before truncation, falls into."""
    tokens = record.truncation.tokens_before
    if tokens is None:
        return None
    bound = FIRST_BIN
    while bound < tokens:
        bound *= 2
    return float(bound)


def _bin_name(bound: float) -> str:
    k = bound / 1024
    return f"≤{k:g}k" if bound <= FIRST_BIN else f"{k / 2:g}–{k:g}k"


def _length_and_depth(record: SampleRecord) -> tuple[float, float] | None:
    facts = record.metadata
    length, depth = facts.get("length"), facts.get("depth")
    return None if length is None or depth is None else (float(length), float(depth))


def _by(mine: Sequence[Member], place: Callable[[SampleRecord], Place | None]) -> dict[Place, list[Scored]]:
    """Scores of the finished samples at each place."""
    found: dict[Place, list[Scored]] = {}
    for member in mine:
        for record, context in zip(member.finished, contexts_of(member.finished)):
            where = place(record)
            if where is not None:
                found.setdefault(where, []).append((member.score(record), context))
    return found


def _asked_at(mine: Sequence[Member], place: Callable[[SampleRecord], Place | None]) -> dict[Place, int]:
    """Samples that were asked at each place, failed ones included: a cell that lost all of them is no gap."""
    found: dict[Place, int] = {}
    for record in (r for m in mine for r in m.run.of_task(m.task).values()):
        where = place(record)
        if where is not None:
            found[where] = found.get(where, 0) + 1
    return found


def _mean(scores: Sequence[Scored]) -> float:
    return 100 * sum(score for score, _ in scores) / len(scores)


def _interval(scores: Sequence[Scored]) -> tuple[float, float] | None:
    return scaled(confidence_interval([score for score, _ in scores], clusters=[c for _, c in scores]))


def _cell(scores: Sequence[Scored], asked: int | None = None) -> Cell:
    n = len(scores) if asked is None else asked
    if not scores:
        return Cell("failed", n_ok=0, n=n)
    return Cell(_mean(scores), _interval(scores), n_ok=len(scores), n=n)


def _series(run: LoadedRun, by: dict[float, list[Scored]]) -> Series:
    points = [(place, _mean(scores), _interval(scores)) for place, scores in sorted(by.items())]
    return Series(run.label, points, run.sees_question)
