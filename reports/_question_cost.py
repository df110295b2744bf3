"""What a question costs as their number over one context grows, and from how many on compressing pays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.contracts import LoadedRun, SampleRecord
from harness.documents import Axis, Cell, Column, Lines, Row, Series, Table

from ._rows import RUN, Member, footers, run_cell

NUMBERS = (1, 2, 5, 10, 20, 50, 100)
"""Questions over one context at which the cost of one is shown."""
FULL = "plain"
"""The method that compresses nothing, which the others are held against."""
COLUMNS = (
    RUN,
    Column("once_s", "context, once", "s", format=".3g"),
    Column("each_s", "a question", "s", format=".3g"),
    *(Column(f"n{n}", f"of {n:,}", "s", format=".3g") for n in NUMBERS),
    Column("pays", f"cheaper than {FULL}", kind="text"),
)


@dataclass(frozen=True)
class QuestionCost:
    """Mean seconds that a context costs once, and that each question over it costs on top."""

    once: float
    each: float

    def at(self, questions: int) -> float:
        """Seconds of one of so many questions over a context."""
        return self.once / questions + self.each


def question_cost(records: Sequence[SampleRecord]) -> QuestionCost | None:
    """What the questions of a task cost; None if no context has several, or their cost is not known.

    Where a context was compressed for each question nothing is paid once.
    """
    shares = [found for record in records if (found := _share(record)) is not None]
    if not any(len(r.answers) > 1 or r.cost.questions > 1 for r in records) or not shares:
        return None
    several = [s for s in shares if s.once] or shares
    return QuestionCost(*(sum(values) / len(several) for values in zip(*((s.once, s.each) for s in several))))


def _share(record: SampleRecord) -> QuestionCost | None:
    """What one record says of both parts."""
    if record.context is not None:
        seconds = [a.cost.seconds for a in record.answers if a.cost.seconds is not None]
        return QuestionCost(record.context.seconds, sum(seconds) / len(seconds)) if seconds else None
    if record.cost.seconds is None:
        return None
    n = record.cost.questions
    once = record.cost.saved_seconds * n / (n - 1) if n > 1 else 0.0
    return QuestionCost(once, record.cost.seconds - once / n)


def pays(one: QuestionCost, full: QuestionCost) -> str:
    """From how many questions over a context on, or up to how many, `one` costs less than `full`."""
    if one.each < full.each:
        return f"from {max(1, math.floor((one.once - full.once) / (full.each - one.each)) + 1):,}"
    if one.once >= full.once:
        return "never"
    if one.each == full.each:
        return "from 1"
    most = math.ceil((full.once - one.once) / (one.each - full.each)) - 1
    return f"up to {most:,}" if most else "never"


def tables(
    runs: Sequence[LoadedRun], found: Mapping[str, Sequence[Member]]
) -> tuple[list[Table], list[Lines]]:
    """A table of rows for each task with several questions over a context, and a figure each; none: no such task."""
    rows: list[Row] = []
    figures: list[Lines] = []
    for task in dict.fromkeys(m.task for mine in found.values() for m in mine):
        mine = {label: next((m for m in members if m.task == task), None) for label, members in found.items()}
        known = {
            label: cost
            for label, member in mine.items()
            if member is not None and (cost := question_cost(member.finished)) is not None
        }
        if not known:
            continue
        asked = [run for run in runs if run.label in known]
        full = next((known[run.label] for run in asked if run.method == FULL), None)
        rows += [_row(run, task, known[run.label], full) for run in asked]
        figures.append(_figure(asked, task, known))
    if not rows:
        return [], []
    notes = [
        "a context is read or compressed once where the method and --protocol allow it, and each question costs what "
        "comes on top; where it is compressed for each question, nothing is paid once",
        "of 5: seconds of one question if five share a context, from the two means as measured; the others alike",
        f"cheaper than {FULL}: from, or up to, how many questions over one context; {FULL} reads a context once too",
    ]
    told = [*notes, *footers(runs)]
    return [Table("question-cost", "Cost of a question over a shared context", COLUMNS, rows, told)], figures


def _row(run: LoadedRun, task: str, cost: QuestionCost, full: QuestionCost | None) -> Row:
    cells = {
        "run": run_cell(run),
        "once_s": Cell(cost.once),
        "each_s": Cell(cost.each),
        **{f"n{n}": Cell(cost.at(n)) for n in NUMBERS},
    }
    if full is not None and run.method != FULL:
        cells["pays"] = Cell(pays(cost, full))
    return Row(cells, group=task)


def _figure(runs: Sequence[LoadedRun], task: str, known: Mapping[str, QuestionCost]) -> Lines:
    series = [
        Series(run.label, [(float(n), known[run.label].at(n), None) for n in NUMBERS], run.sees_question)
        for run in runs
    ]
    return Lines(
        f"figure-question-cost-{task.replace('/', '-')}",
        f"{task}: seconds of a question by the number that share a context",
        "Each line is a run: what a context costs once, divided among its questions, and what each costs on top.",
        Axis("questions over one context", log=True),
        Axis("time for a question", "s"),
        series,
        [(float(n), f"{n}") for n in NUMBERS],
    )
