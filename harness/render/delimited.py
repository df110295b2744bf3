"""Tables as CSV: values unrounded, a column each for bounds, published values, counts and marks."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ..documents.tables import Cell, Column, Row, Table
from ._text import visible


def table(made: Table) -> str:
    """One header line, then a line for each row.

    A column ``score`` is followed by those of ``score_low``, ``score_high``, ``score_published``,
    ``score_difference``, ``score_n_ok``, ``score_n`` and ``score_marks`` that have anything to say.
    """
    parts = [part for column in made.columns for part in _parts(column, made.rows)]
    grouped = any(row.group for row in made.rows)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*(["group"] if grouped else ()), *(_name(column, part) for column, part in parts)])
    for row in made.rows:
        values = [_value(row.cell(column), part) for column, part in parts]
        writer.writerow([_safe(v) for v in ([row.group] if grouped else []) + values])
    return file.getvalue()


PARTS = ("value", "low", "high", "published", "difference", "n_ok", "n", "marks")


def _parts(column: Column, rows: Sequence[Row]) -> list[tuple[Column, str]]:
    cells = [row.cell(column) for row in rows]
    return [
        (column, part) for part in PARTS if part == "value" or any(_value(cell, part) != "" for cell in cells)
    ]


def _name(column: Column, part: str) -> str:
    return column.key if part == "value" else f"{column.key}_{part}"


def _value(cell: Cell, part: str) -> object:
    """One fact of a cell; an empty string where it is not known."""
    found: object
    if part in ("low", "high"):
        found = None if cell.interval is None else cell.interval[part == "high"]
    elif part == "marks":
        found = " ".join(cell.all_marks)
    elif part == "value":
        found = cell.text if cell.value is None else cell.value
    else:
        found = getattr(cell, part)
    return "" if found is None else found


def _safe(value: object) -> object:
    """Text that neither a terminal obeys nor a spreadsheet takes for a formula; numbers as they are."""
    if not isinstance(value, str):
        return value
    text = visible(value, one_line=True)
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@＝＋－＠") else text
