"""A table that knows nothing of paper, page or terminal; `harness.render` writes it in any format.

A cell holds its number unrounded, in the unit of its column, with what must stand beside it: the interval,
the published value, how many samples finished, and marks. What is never in a number is how it looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

DASH = "–"


class Mark(StrEnum):
    """What a reader must know of one number; the value is the mark's name in JSON and CSV.

    ``BEST`` belongs to every cell that no other of its column beats significantly after Holm's correction, so
    several may share it; a number that is only larger than its neighbour gets no mark.
    """

    BEST = "best"
    BETTER = "better"
    WORSE = "worse"
    SAME = "indistinguishable"
    SEES_QUESTION = "sees-question"
    INCOMPLETE = "incomplete"
    DECLARED = "declared"
    WARNED = "warned"


SYMBOLS: Mapping[Mark, str] = {
    Mark.BETTER: "▲",
    Mark.WORSE: "▼",
    Mark.SAME: "≈",
    Mark.SEES_QUESTION: "†",
    Mark.INCOMPLETE: "‡",
    Mark.DECLARED: "?",
    Mark.WARNED: "!",
}
"""What stands behind a number; the best are set in bold instead."""
VERDICTS = frozenset((Mark.BETTER, Mark.WORSE, Mark.SAME))

MEANINGS: Mapping[Mark, str] = {
    Mark.BEST: "bold: not significantly worse than the highest of its column (Holm)",
    Mark.BETTER: "significantly better than the baseline (paired test, Holm's correction)",
    Mark.WORSE: "significantly worse than the baseline (paired test, Holm's correction)",
    Mark.SAME: "indistinguishable from the baseline (paired test, Holm's correction)",
    Mark.SEES_QUESTION: "sees the question as it compresses: not to be ranked with those that do not",
    Mark.INCOMPLETE: "not every sample finished: the number is over those that did",
    Mark.DECLARED: "declared by the method, not seen in the model's forward pass",
    Mark.WARNED: "see the note on this run",
}


@dataclass(frozen=True)
class Cell:
    """One number or word of a table.

    Attributes
    ----------
    value
        Unrounded, in the column's unit; None shows a dash.
    interval
        95 % interval of `value`, in the same unit.
    text
        Shown instead of the formatted value (``indistinguishable``); `value` stays what CSV and JSON get.
    marks
        See `Mark`.
    published
        The published value of the same thing, in the same unit.
    n_ok, n
        Samples that finished, and samples that were asked for; `Mark.INCOMPLETE` follows if they differ.
    """

    value: float | int | str | None = None
    interval: tuple[float, float] | None = None
    text: str | None = None
    marks: frozenset[Mark] = frozenset()
    published: float | None = None
    n_ok: int | None = None
    n: int | None = None

    @property
    def difference(self) -> float | None:
        """Ours less the published value; None unless both are numbers."""
        if self.published is None or not isinstance(self.value, int | float):
            return None
        return self.value - self.published

    @property
    def all_marks(self) -> list[Mark]:
        """The marks in the order of `Mark`, with the one that follows from `n_ok` and `n`."""
        incomplete = self.n_ok is not None and self.n is not None and self.n_ok < self.n
        found = {*self.marks, Mark.INCOMPLETE} if incomplete else self.marks
        return [mark for mark in Mark if mark in found]

    @property
    def signs(self) -> list[Mark]:
        """The marks that are shown as a sign: a verdict in words needs none."""
        words = isinstance(self.value, str)
        return [m for m in self.all_marks if m in SYMBOLS and not (words and m in VERDICTS)]

    def to_json(self) -> dict[str, Any]:
        """What is known, without what is not; `value` always."""
        known: dict[str, Any] = {
            "interval": None if self.interval is None else list(self.interval),
            "text": self.text,
            "marks": [str(mark) for mark in self.all_marks] or None,
            "published": self.published,
            "difference": self.difference,
            "n_ok": self.n_ok,
            "n": self.n,
        }
        return {"value": self.value, **{k: v for k, v in known.items() if v is not None}}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    key
        Its name in CSV and JSON, and the key of its cells.
    heading, unit
        What stands above it; the unit of every value in it.
    kind
        ``name`` columns say what a row is and are repeated where a wide table is broken; ``number`` columns
        are set flush right and in figures of one width; ``text`` is anything else.
    format
        Format of numbers, as for `format`.
    group
        Heading over neighbouring columns of the same group (``Single-Doc QA``).
    intervals
        Whether intervals are shown beside the values; CSV and JSON have them always.
    detail
        0: always shown. Of others, those with the larger number are left out first of a narrow terminal.
    spread
        Whether the interval belongs to the value even where there is little room: that of a score does, that of a
        cost does not.
    """

    key: str
    heading: str
    unit: str = ""
    kind: Literal["name", "number", "text"] = "number"
    format: str = ".1f"
    group: str = ""
    intervals: bool = True
    detail: int = 0
    spread: bool = True

    @property
    def head(self) -> str:
        """The heading with its unit."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading

    def number(self, value: float | int | str | None) -> str:
        """A value as it is shown: a dash for None, a real minus sign, words as they are."""
        if value is None:
            return DASH
        if isinstance(value, str):
            return value
        return format(value, self.format).replace("-", "−")

    def signed(self, value: float) -> str:
        """A difference as it is shown, sign included."""
        return format(value, f"+{self.format}").replace("-", "−")

    def interval(self, cell: Cell) -> str:
        """``20.8, 93.9``, without brackets; empty if there is none, or the column shows none."""
        if cell.interval is None or not self.intervals:
            return ""
        return ", ".join(self.number(bound) for bound in cell.interval)

    def main(self, cell: Cell) -> str:
        """The cell's own text or number, without interval, marks or published value."""
        return self.number(cell.value) if cell.text is None else cell.text


@dataclass(frozen=True)
class Row:
    """One row: cells by their columns' keys (a missing one is a dash), and the group it stands in."""

    cells: Mapping[str, Cell]
    group: str = ""

    def cell(self, column: Column) -> Cell:
        """The cell of a column; an empty one where there is none."""
        return self.cells.get(column.key, Cell())


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name
        Lower-case word for file names and anchors.
    title
        One line.
    columns, rows
        Names and values; rows of one group stand together.
    footers
        Lines a reader must know to believe it: how each average is formed, the data, the truncation, the hash.
    folded
        Whether a page shows it only when asked: a figure shows the same.
    grouped
        Key of the name column that the rows' groups say already: formats with groups leave it out.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    footers: Sequence[str] = field(default=())
    folded: bool = False
    grouped: str = ""

    @property
    def ungrouped(self) -> list[Column]:
        """The columns but the one that the groups say."""
        return [c for c in self.columns if c.key != self.grouped]

    def legend(self) -> list[str]:
        """A line for each mark that occurs, and one for published values if there are any."""
        cells = [row.cell(column) for row in self.rows for column in self.columns]
        used = {mark for cell in cells for mark in cell.signs} | {
            Mark.BEST for cell in cells if Mark.BEST in cell.marks
        }
        lines = [
            f"{SYMBOLS[mark]} {MEANINGS[mark]}" if mark in SYMBOLS else MEANINGS[mark]
            for mark in Mark
            if mark in used
        ]
        if any(cell.interval and column.intervals for row in self.rows for column, cell in self.pairs(row)):
            lines.insert(0, "[ ] 95 % interval")
        if any(cell.published is not None for cell in cells):
            lines.append("paper: the published value, and where there is room how far ours is from it")
        return lines

    def notes(self) -> list[str]:
        """All that stands below the table: its footers, then the legend."""
        return [*self.footers, *self.legend()]

    def pairs(self, row: Row) -> list[tuple[Column, Cell]]:
        """Columns with the cells of a row."""
        return [(column, row.cell(column)) for column in self.columns]

    def to_json(self) -> dict[str, Any]:
        """Everything, unrounded."""
        return {
            "name": self.name,
            "title": self.title,
            "columns": [
                {"key": c.key, "heading": c.heading, "unit": c.unit, "group": c.group, "kind": c.kind}
                for c in self.columns
            ],
            "rows": [
                {"group": row.group, "cells": {c.key: cell.to_json() for c, cell in self.pairs(row)}}
                for row in self.rows
            ],
            "footers": list(self.footers),
            "legend": self.legend(),
        }


def symbols(cell: Cell) -> str:
    """The signs of a cell's marks, in the order of `Mark`."""
    return "".join(SYMBOLS[mark] for mark in cell.signs)


def plain_text(column: Column, cell: Cell) -> str:
    """A whole cell in one line: ``38.6† [35.0, 42.1] (paper 39.8, −1.2)``."""
    parts = [column.main(cell) + symbols(cell)]
    if interval := column.interval(cell):
        parts.append(f"[{interval}]")
    if published := published_text(column, cell):
        parts.append(f"({published})")
    return " ".join(parts)


def published_text(column: Column, cell: Cell) -> str:
    """``paper 39.8, −1.2``; empty without a published value."""
    if cell.published is None:
        return ""
    difference = "" if cell.difference is None else f", {column.signed(cell.difference)}"
    return f"paper {column.number(cell.published)}{difference}"


def spans(columns: Iterable[Column]) -> list[tuple[str, int]]:
    """Neighbouring columns of one group as (group, how many), for a heading above them."""
    found: list[tuple[str, int]] = []
    for column in columns:
        if found and found[-1][0] == column.group:
            found[-1] = (column.group, found[-1][1] + 1)
        else:
            found.append((column.group, 1))
    return found
