"""Tables on a terminal. One that is wider than the terminal is broken between columns, not within them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ..documents.tables import Cell, Column, Mark, Row, Table, plain_text
from ._text import visible

GAP = 3
"""Columns of the terminal that stand between two of a table."""

STYLES = {Mark.BEST: "bold", Mark.INCOMPLETE: "red", Mark.WORSE: "red", Mark.BETTER: "green"}


def table(made: Table, width: int, leave_out: Sequence[str] = ()) -> RenderableType:
    """The title, the table in as many pieces as `width` asks for, and its notes but those to leave out."""
    parts: list[RenderableType] = [Text(visible(made.title, one_line=True), style="bold")]
    parts += [_piece(made, columns) for columns in _pieces(made, width)]
    parts += notes([note for note in made.notes() if note not in leave_out])
    return Group(*parts, Text())


def notes(lines: Sequence[str]) -> list[Text]:
    """What stands below tables."""
    return [Text(visible(line, one_line=True), style="dim") for line in lines]


def _pieces(made: Table, width: int) -> Iterator[list[Column]]:
    """Columns that fit side by side, each time after those that name the row."""
    names = [c for c in made.columns if c.kind == "name"]
    room = width - sum(_width(made, c) for c in names)
    piece: list[Column] = []
    used = 0
    for column in made.columns:
        if column.kind == "name":
            continue
        needed = _width(made, column)
        if piece and used + needed > room:
            yield [*names, *piece]
            piece, used = [], 0
        piece.append(column)
        used += needed
    if piece or names:
        yield [*names, *piece]


def _width(made: Table, column: Column) -> int:
    texts = [_head(column), *(_text(column, row.cell(column)) for row in made.rows)]
    return GAP + max(cell_len(line) for text in texts for line in text.split("\n"))


def _piece(made: Table, columns: Sequence[Column]) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        justify = "right" if column.kind == "number" else "left"
        shown.add_column(Text(_head(column)), justify=justify, overflow="fold", vertical="top")  # type: ignore[arg-type]
    before: Row | None = None
    for row in made.rows:
        if before is not None and row.group != before.group:
            shown.add_section()
        if row.group and (before is None or row.group != before.group):
            shown.add_row(Text(visible(row.group, one_line=True), style="italic"))
        shown.add_row(*(_styled(column, row.cell(column)) for column in columns))
        before = row
    return shown


def _head(column: Column) -> str:
    head = visible(column.head, one_line=True)
    return f"{visible(column.group, one_line=True)}\n{head}" if column.group else head


def _text(column: Column, cell: Cell) -> str:
    return visible(plain_text(column, cell), one_line=True)


def _styled(column: Column, cell: Cell) -> Text:
    style = " ".join(STYLES[mark] for mark in cell.all_marks if mark in STYLES)
    return Text(_text(column, cell), style=style)
