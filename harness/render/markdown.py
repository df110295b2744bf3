"""Tables as Markdown (GitHub's), for a README or an issue."""

from __future__ import annotations

import re

from ..documents.document import Answer
from ..documents.tables import Cell, Column, Mark, Table, plain_text
from ._text import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>&|#~!$])")


def table(made: Table, level: int = 3) -> str:
    """A heading, the table and its footers. `level` is the heading's; 0 leaves it out."""
    lines = [f"{'#' * level} {escape(made.title)}", ""] if level else []
    lines.append("| " + " | ".join(_head(c) for c in made.columns) + " |")
    lines.append("| " + " | ".join("---:" if c.kind == "number" else "---" for c in made.columns) + " |")
    lines += ["| " + " | ".join(_cell(c, cell) for c, cell in made.pairs(row)) + " |" for row in made.rows]
    if notes := made.notes():
        lines += ["", *(f"- {escape(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def answer(made: Answer) -> str:
    """What was found of one subject, as a list below its name."""
    lines = [f"- {escape(sentence)}" for _, sentence in made.lines]
    return "\n".join([f"**{escape(made.subject)}**", "", *lines]) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", visible(text, one_line=True))


def _head(column: Column) -> str:
    return escape(f"{column.group}: {column.head}" if column.group else column.head)


def _cell(column: Column, cell: Cell) -> str:
    text = escape(plain_text(column, cell))
    return f"**{text}**" if Mark.BEST in cell.marks else text
