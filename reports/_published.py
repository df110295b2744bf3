"""Which published numbers belong beside which of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import UsageError, registry
from harness.contracts import LoadedRun
from harness.documents import Cell, Row

from ._columns import ScoreColumn

if TYPE_CHECKING:
    from harness.baselines.published import PublishedRow, PublishedTable


@dataclass(frozen=True)
class Published:
    """A published table as it stands beside ours.

    Attributes
    ----------
    title
        For the heading: where it is from, and its models if they are not ours.
    matches
        The published row of each run that has one, by label.
    others
        Rows for all its lines, if the user asked for this table.
    footers
        What must be known to compare.
    """

    table: PublishedTable
    title: str
    matches: Mapping[str, PublishedRow]
    others: Sequence[Row]
    footers: Sequence[str]

    def value(self, run: LoadedRun, column: ScoreColumn) -> float | None:
        """The published value of a run's column, x 100."""
        row = self.matches.get(run.label)
        return None if row is None else _value(self.table, row, column)


def published(
    runs: Sequence[LoadedRun], columns: Sequence[ScoreColumn], name: str | None
) -> Published | None:
    """The table `name`, or without it the one that has a value for most of ours; None if there is none.

    Raises
    ------
    UsageError
        If there is no table `name`.
    """
    from harness.baselines import published as data

    names = [name] if name else data.tables()
    found = [_beside(data.table(each), runs, columns, everything=bool(name)) for each in names]
    useful = [each for each in found if name or _overlap(each, runs, columns)]
    return max(useful, key=lambda each: _overlap(each, runs, columns), default=None)


def _overlap(beside: Published, runs: Sequence[LoadedRun], columns: Sequence[ScoreColumn]) -> int:
    return sum(beside.value(run, c) is not None for run in runs for c in columns)


def _beside(
    table: PublishedTable, runs: Sequence[LoadedRun], columns: Sequence[ScoreColumn], everything: bool
) -> Published:
    fitting = [c for c in columns if _covers(table, c)]
    matches = {run.label: row for run in runs if (row := _match(table, run, fitting)) is not None}
    shown = table.rows if everything else tuple(matches.values())
    models = " and ".join(dict.fromkeys(row.model for row in shown))
    ours = ", ".join(dict.fromkeys(run.model for run in runs))
    where = (
        f"{table.source.authors[0]} {table.source.year}, {table.place}"
        if table.source.authors
        else table.place
    )
    other = bool(shown) and any(row.model.lower() != run.model.lower() for row in shown for run in runs)
    title = f"{where}" + (f" (paper: {models}; ours: {ours})" if other else "")
    footers = [
        f"paper, {label}: row {row.label!r}, model {row.model}" + (f"; {row.note}" if row.note else "")
        for label, row in matches.items()
    ]
    if other:
        footers.append(
            "the paper's model is not ours: its numbers are no target, only the differences between rows"
        )
    others = [_other(table, row, columns) for row in table.rows] if everything else []
    return Published(table, title, matches, others, footers)


def _covers(table: PublishedTable, column: ScoreColumn) -> bool:
    """Whether the table is about the column's task, and has a column of that name."""
    about = table.task is None or table.task.partition("/")[0] == column.family
    return about and any(
        c.key == column.short and c.kind in ("dataset", "category", "average") for c in table.columns
    )


def _match(table: PublishedTable, run: LoadedRun, columns: Sequence[ScoreColumn]) -> PublishedRow | None:
    """The first row of the run's method whose options are the run's own, in which a column of the run has a value."""
    mine = [c for c in columns if any(run.task(task) for task in c.weights)]
    for row in table.rows:
        if row.method != run.method or not mine:
            continue
        wanted = {**_defaults(run), **row.options}
        if all(_same(run.options.get(name), value) for name, value in wanted.items()):
            return row
    return None


def _defaults(run: LoadedRun) -> dict[str, object]:
    """The defaults of the run's method; of one that is not installed here nothing is known."""
    try:
        options = registry.method(run.method).cls.Options
    except UsageError:
        return {}
    return options().model_dump(mode="json")


def _same(ours: object, published: object) -> bool:
    return ours == published or str(ours) == str(published)


def _value(table: PublishedTable, row: PublishedRow, column: ScoreColumn) -> float | None:
    if not _covers(table, column):
        return None
    value = row.values.get(column.short)
    return None if value is None else value * 100 / table.scale


def _other(table: PublishedTable, row: PublishedRow, columns: Sequence[ScoreColumn]) -> Row:
    label = row.label + (f" ({'+'.join(row.data)})" if row.data else "")
    cells = {"run": Cell(label)}
    cells |= {c.key: Cell(v) for c in columns if (v := _value(table, row, c)) is not None}
    return Row(cells, group=f"published, {row.model}")
