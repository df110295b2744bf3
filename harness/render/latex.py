"""Tables as LaTeX, set with booktabs; compiles under pdflatex with nothing but that package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..documents.tables import SYMBOLS, Cell, Column, Mark, Row, Table, published_text, spans
from ._text import visible

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "[": "{[}",  # after a line's end a bare one would be read as its argument
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "''",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "≈": r"$\approx$",
    "→": r"$\to$",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
    "▲": r"$^{\uparrow}$",
    "▼": r"$^{\downarrow}$",
    "\u00a0": "~",
    "⏎": " ",
    "⇥": " ",
}
_TO_ESCAPE = re.compile("|".join(re.escape(c) for c in _SPECIAL) + r"|[^\x20-\x7e]")


def table(made: Table) -> str:
    """A ``table`` environment with caption and label; footers stand below it in small print."""
    columns = list(made.columns)
    layout = "".join("r" if c.kind == "number" else "l" for c in columns)
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape(made.title)}}}",
        rf"\label{{tab:{re.sub(r'[^a-z0-9-]+', '-', made.name.lower())}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{layout}@{{}}}}",
        r"\toprule",
        *_group_heads(columns),
        _line(escape(c.head) for c in columns),
        r"\midrule",
        *_rows(made),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    if notes := made.notes():
        text = "\\par\n".join(escape(note) for note in notes)
        lines.append(
            rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright {text}\end{{minipage}}"
        )
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def document(tables: str) -> str:
    """A whole file that compiles."""
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    return f"{head}{tables}\\end{{document}}\n"


def escape(text: str) -> str:
    """Text that LaTeX sets as it is; a character outside of ASCII that it may lack is given by its number."""
    return _TO_ESCAPE.sub(lambda m: _SPECIAL.get(m[0]) or _foreign(m[0]), visible(text, one_line=True))


def _foreign(character: str) -> str:
    # The letters of Latin-1 are in every LaTeX; beyond them nothing is certain.
    return character if "À" <= character <= "ÿ" else f"[U+{ord(character):04X}]"


def _group_heads(columns: list[Column]) -> Iterator[str]:
    if not any(c.group for c in columns):
        return
    heads, rules, start = [], [], 1
    for group, width in spans(columns):
        heads.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    yield _line(heads)
    yield "".join(rules)


def _rows(made: Table) -> Iterator[str]:
    before: Row | None = None
    for row in made.rows:
        if row.group and (before is None or row.group != before.group):
            if before is not None:
                yield r"\midrule"
            yield _line([rf"\multicolumn{{{len(made.columns)}}}{{l}}{{\emph{{{escape(row.group)}}}}}"])
        yield _line(_cell(column, cell) for column, cell in made.pairs(row))
        before = row


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(column: Column, cell: Cell) -> str:
    main = escape(column.main(cell))
    if Mark.BEST in cell.marks:
        main = rf"\textbf{{{main}}}"
    parts = [main + "".join(escape(SYMBOLS[m]) for m in cell.signs)]
    small = [f"[{interval}]"] if (interval := column.interval(cell)) else []
    if published := published_text(column, cell):
        small.append(f"({published})")
    if small:
        parts.append(rf"{{\scriptsize {escape(' '.join(small))}}}")
    return " ".join(parts)
