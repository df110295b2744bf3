"""Answers and tables as a piece of HTML for a notebook: no script, nothing from a network, everything escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from ..documents.document import Answer, Document
from ..documents.tables import Cell, Column, Mark, Table, published_text, symbols
from ._text import visible

STYLE = (
    "<style>.harness table{border-collapse:collapse;font-variant-numeric:tabular-nums}.harness .wide{overflow-x:auto}"
    ".harness th,.harness td{padding:2px 10px;text-align:left;vertical-align:top;white-space:nowrap}"
    ".harness .number{text-align:right}.harness small{opacity:.7}.harness tr.group th{font-style:italic;"
    "font-weight:normal}.harness ul{margin:0 0 .6em}.harness .better{color:#1d6b3a}.harness .worse{color:#a82c1c}"
    "@media (prefers-color-scheme:dark){.harness .better{color:#7fcf9a}.harness .worse{color:#f08a7b}}</style>"
)


def fragment(documents: Sequence[Document]) -> str:
    """The answers, and every table that a page does not fold."""
    parts = [_answer(a) for document in documents for a in document.answers]
    parts += [f"<p>{_safe(note)}</p>" for document in documents for note in document.notes]
    parts += [_table(t) for document in documents for t in document.tables if not t.folded]
    return f'{STYLE}<div class="harness">{"".join(parts)}</div>'


def table(made: Table) -> str:
    """One table."""
    return f'{STYLE}<div class="harness">{_table(made)}</div>'


def _answer(found: Answer) -> str:
    known = {"better": "better", "worse": "worse"}
    lines = "".join(f'<li class="{known.get(told, "open")}">{_safe(said)}</li>' for told, said in found.lines)
    return f"<p><b>{_safe(found.subject)}</b></p><ul>{lines}</ul>"


def _table(made: Table) -> str:
    columns = made.ungrouped
    heads = "".join(f'<th class="{c.kind}">{_safe(c.head)}</th>' for c in columns)
    body = []
    for group, rows in groupby(made.rows, key=lambda row: row.group):
        if group:
            body.append(f'<tr class="group"><th colspan="{len(columns)}">{_safe(group)}</th></tr>')
        body += ["<tr>" + "".join(_cell(c, row.cell(c)) for c in columns) + "</tr>" for row in rows]
    legend = "".join(f"<br><small>{_safe(line)}</small>" for line in made.legend())
    title = f"<p><b>{_safe(made.title)}</b></p>"
    return (
        f'{title}<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        f"{legend.removeprefix('<br>')}"
    )


def _cell(column: Column, cell: Cell) -> str:
    main = _safe(column.main(cell))
    if Mark.BEST in cell.marks:
        main = f"<b>{main}</b>"
    small = [f"[{i}]"] if (i := column.interval(cell)) else []
    small += [p] if (p := published_text(column, cell)) else []
    beside = f" <small>{_safe(' '.join(small))}</small>" if small else ""
    return f'<td class="{column.kind}">{main}{symbols(cell)}{beside}</td>'


def _safe(text: str) -> str:
    return escape(visible(text, one_line=True))
