"""How a table is set in so many columns of a terminal: what is shown, how wide, in how many pieces.

Widths are of terminal cells, so that other scripts line up too. A word is broken only if it alone is wider than half
of the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from rich.cells import cell_len, chop_cells
from rich.text import Text

from ..documents.tables import Cell, Column, Mark, Row, Table, plain_text, symbols
from ._text import visible

GAP = 2
"""Columns of the terminal that stand between two of a table."""

STYLES = {Mark.BEST: "bold", Mark.INCOMPLETE: "red", Mark.WORSE: "red", Mark.BETTER: "green"}


@dataclass(frozen=True)
class Layout:
    """Columns that stand side by side, and whether an interval stands below its value instead of behind it."""

    made: Table
    columns: Sequence[Column]
    stacked: bool = False

    def lines(self, column: Column, row: Row) -> list[str]:
        """The lines of a row's cell, before any is wrapped."""
        cell = row.cell(column)
        if isinstance(row, _Turned) and column.kind != "name":
            column = row.column
        if not self.stacked or column.kind == "name":
            return [_one(plain_text(column, cell))]
        found = [_one(column.main(cell) + symbols(cell))]
        if interval := column.interval(cell):
            found.append(f"[{interval}]")
        if cell.published is not None:
            found.append(f"paper {column.number(cell.published)}")
        return found

    def fits(self, width: int, *, unwrapped: bool = False) -> bool:
        """Whether all columns have room, words whole; with `unwrapped` the names of rows in one line."""
        needed = [
            self.natural(c) if unwrapped and c.kind == "name" else self.least(c, width) for c in self.columns
        ]
        return sum(needed) + GAP * (len(needed) - 1) <= width

    def widths(self, width: int) -> list[int]:
        """The width of each column: what it needs, less where words can be wrapped and room is short."""
        full = [self.natural(c) for c in self.columns]
        least = [min(f, self.least(c, width)) for f, c in zip(full, self.columns)]
        spare = width - sum(least) - GAP * (len(least) - 1)
        for i, (small, large) in enumerate(zip(least, full)):
            more = min(large - small, max(0, spare))
            least[i], spare = small + more, spare - more
        return least

    def natural(self, column: Column) -> int:
        """Columns of the terminal that the widest line needs."""
        return max(cell_len(line) for line in self._all(column))

    def least(self, column: Column, width: int) -> int:
        """The same with lines wrapped at blanks: a heading always, cells where they are words."""
        lines = [word for line in _head(column) for word in line.split()]
        for row in self.made.rows:
            for line in self.lines(column, row):
                lines += [line] if column.kind == "number" else line.split()
        return min(max((cell_len(word) for word in lines), default=1), max(8, width // 2))

    def _all(self, column: Column) -> Iterator[str]:
        yield from _head(column)
        for row in self.made.rows:
            yield from self.lines(column, row)


def layouts(made: Table, width: int, *, compact: bool) -> list[Layout]:
    """The table as one layout if it can be, else in pieces that each name their rows.

    With `compact` columns are left out that say details, where there is no room for them; what is still too
    wide has its intervals below the values, then runs across and columns down, and is broken only as the last resort.
    """
    made = replace(made, columns=made.ungrouped)
    if not compact:
        whole = Layout(made, made.columns)
        return [whole] if whole.fits(width) else _pieces(whole, width)
    whole = Layout(made, made.columns)
    if whole.fits(width, unwrapped=True):
        return [whole]
    made = replace(made, columns=[replace(c, intervals=c.intervals and c.spread) for c in made.columns])
    levels = sorted({c.detail for c in made.columns}, reverse=True)
    found = [Layout(made, [c for c in made.columns if c.detail <= level]) for level in levels]
    for each in found:
        if each.fits(width, unwrapped=True):
            return [each]
    always = [c for c in made.columns if not c.detail]
    tries = [found[-1], Layout(made, always, stacked=True)] if found else []
    turned = transposed(replace(made, columns=always))
    if turned is not None:
        tries += [Layout(turned, turned.columns), Layout(turned, turned.columns, stacked=True)]
    for each in tries:
        if each.fits(width):
            return [each]
    return _pieces(Layout(made, always, stacked=True), width)


def transposed(made: Table) -> Table | None:
    """Rows as columns, of a table whose rows are each named by one cell; None where that cannot be."""
    names = [c for c in made.columns if c.kind == "name"]
    values = [c for c in made.columns if c.kind != "name"]
    shown = [row for row in made.rows if any(c.key in row.cells for c in values)]
    if len(names) != 1 or any(c.kind != "number" for c in values) or len(values) <= len(shown):
        return None
    heads = [replace(names[0], key="what", heading="")]
    for i, row in enumerate(shown):
        label = row.cell(names[0])
        heads.append(Column(str(i), names[0].main(label) + symbols(label), kind="number"))
    rows = []
    for column in values:
        cells = {str(i): row.cell(column) for i, row in enumerate(shown)}
        rows.append(_Turned({"what": Cell(column.head), **cells}, column.group, column))
    return replace(made, columns=heads, rows=rows)


@dataclass(frozen=True)
class _Turned(Row):
    """A row that was a column, whose format its numbers keep."""

    column: Column = field(default_factory=lambda: Column("", ""))


def _pieces(whole: Layout, width: int) -> list[Layout]:
    names = [c for c in whole.columns if c.kind == "name"]
    room = width - sum(whole.natural(c) + GAP for c in names)
    if room < width // 3:
        room = width - sum(whole.least(c, width) + GAP for c in names)
    pieces: list[list[Column]] = []
    used = 0
    for column in (c for c in whole.columns if c.kind != "name"):
        needed = whole.least(column, width) if column.kind == "text" else whole.natural(column)
        if not pieces or used + needed > room:
            pieces.append([])
            used = 0
        pieces[-1].append(column)
        used += needed + GAP
    return [replace(whole, columns=[*names, *piece]) for piece in pieces or [[]]]


def drawn(layout: Layout, width: int) -> list[Text]:
    """The lines: heads, a rule, rows; each group after a line with its name."""
    widths = layout.widths(width)
    lines = _joined(
        [
            _wrapped([(line, "bold") for line in _head(c)], wide, c.kind == "number", last=True)
            for c, wide in zip(layout.columns, widths)
        ]
    )
    lines.append(Text("─" * (sum(widths) + GAP * (len(widths) - 1)), style="dim"))
    before: Row | None = None
    for row in layout.made.rows:
        if row.group and (before is None or row.group != before.group):
            lines.append(Text(_one(row.group), style="italic"))
        lines += _joined(
            [_cell(layout, c, row, wide) for c, wide in zip(layout.columns, widths)],
        )
        before = row
    return lines


def _cell(layout: Layout, column: Column, row: Row, width: int) -> list[Text]:
    style = " ".join(STYLES[mark] for mark in row.cell(column).all_marks if mark in STYLES)
    first, *rest = layout.lines(column, row)
    return _wrapped([(first, style), *((line, "dim") for line in rest)], width, column.kind == "number")


def _wrapped(lines: Sequence[tuple[str, str]], width: int, right: bool, *, last: bool = False) -> list[Text]:
    """Lines no wider than `width`, padded to it; `last` of a head marks what stands at the bottom."""
    found = []
    for line, style in lines:
        for part in wrapped(line, width):
            blank = " " * (width - cell_len(part))
            text = Text(blank if right else "")
            text.append(part, style=style)
            found.append(text if right else text.append(blank))
    return [_BOTTOM, *found] if last else found


_BOTTOM = Text("\0")
"""Before the lines of a head: they stand at the bottom of its row."""


_BLANK = re.compile(r"(?<![=<]) (?![=<])")
"""Where a line may be broken: ``n = 30`` stays together."""


def wrapped(line: str, width: int) -> list[str]:
    """A line in parts no wider than `width`, broken at blanks; a wider word at its letters."""
    parts: list[str] = [""]
    for word in _BLANK.split(line):
        candidate = f"{parts[-1]} {word}" if parts[-1] else word
        if cell_len(candidate) <= width:
            parts[-1] = candidate
        elif cell_len(word) <= width:
            parts.append(word)
        else:
            pieces = chop_cells(word, width)
            parts += pieces
    return [p for p in parts if p] or [""]


def _joined(cells: list[list[Text]]) -> list[Text]:
    bottom = any(cell and cell[0] is _BOTTOM for cell in cells)
    cells = [cell[1:] if cell and cell[0] is _BOTTOM else cell for cell in cells]
    height = max(map(len, cells))
    lines = []
    for i in range(height):
        parts = []
        for cell in cells:
            place = i - (height - len(cell)) if bottom else i
            blank = Text(" " * cell_len(cell[0].plain)) if cell else Text("")
            parts.append(cell[place] if 0 <= place < len(cell) else blank)
        line = Text(" " * GAP).join(parts)
        line.rstrip()
        lines.append(line)
    return lines


def _head(column: Column) -> list[str]:
    head = _one(column.head)
    return [_one(column.group), head] if column.group else [head]


def _one(text: str) -> str:
    return visible(text, one_line=True)
