"""One page that holds everything: no network, no files beside it, readable without scripts.

Whatever a model or a file wrote is escaped, by the template or, in figures, by `_svg`, and has its controls made
visible; the template takes as markup nothing but figures and the page's own style and script. The page's own
policy forbids every request, and every script and style but the ones it was written with.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..documents.browser import Browser
from ..documents.document import Answer, Document, SampleView
from ..documents.figures import Figure, Forest, HeatMap, Lines, Scatter
from ..documents.tables import MEANINGS, SYMBOLS, Cell, Column, Mark, Table, published_text, spans
from . import _maps, _plots
from ._forest import forest
from ._svg import NARROW, WIDTH
from ._text import visible

if TYPE_CHECKING:
    from jinja2 import Environment
LONG = 28
"""Characters from which a text may be broken into lines."""
BROAD = 140
"""Characters, about, from which a table is set as several below each other: an A4 page holds no more."""
TEMPLATES = Path(__file__).parent / "templates"


def page(
    documents: Sequence[Document],
    title: str,
    lede: Sequence[str] = (),
    colophon: str = "",
    *,
    sheet: bool = False,
) -> str:
    """The page.

    Parameters
    ----------
    documents
        Its sections, in order.
    lede
        Lines under the title.
    colophon
        The last line.
    sheet
        Whether it is set small on paper, to fit on one sheet.
    """
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    names = _Names()
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=visible(title, one_line=True),
            lede=[visible(line, one_line=True) for line in lede],
            colophon=visible(colophon, one_line=True),
            answers=[_answer(a) for document in documents for a in document.answers],
            remarks=[visible(note) for document in documents if document.answers for note in document.notes],
            glance=_glance(documents, names),
            parts=[part for document in documents if (part := _part(document, names))],
            browser=_browser(documents),
            policy=policy(style, script),
            sheet=sheet,
            style=style,
            script=script,
        )
    )


def policy(style: str, script: str) -> str:
    """The content security policy: nothing from anywhere, and only this style and this script."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; style-src {digest(style)}; script-src {digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def svg(figure: Figure, width: float = WIDTH) -> str:
    """A figure as an SVG element of so many units across, all text in it escaped."""
    if isinstance(figure, Scatter):
        return _plots.scatter(figure, width)
    if isinstance(figure, Lines):
        return _plots.lines(figure, width)
    if isinstance(figure, HeatMap):
        return _maps.heat_map(figure, width)
    if isinstance(figure, Forest):
        return forest(figure, width)
    return _maps.strip(figure, width)


class _Names:
    """Names for anchors: letters, digits and dashes, no two alike on a page."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, wanted: str) -> str:
        name = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-") or "part"
        number = 2
        found = name
        while found in self._seen:
            found, number = f"{name}-{number}", number + 1
        self._seen.add(found)
        return found


def environment() -> Environment:
    """The templates, everything escaped that is put into them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        lstrip_blocks=True,
    )


def _answer(found: Answer) -> dict[str, Any]:
    """The sentences of one subject, each with its verdict as a class."""
    known = {"better": "better", "worse": "worse", "cannot be told": "open"}
    return {
        "subject": visible(found.subject, one_line=True),
        "lines": [(known.get(told, ""), visible(said, one_line=True)) for told, said in found.lines],
    }


FIRST = (Forest, Scatter)
"""Figures that stand before all tables: who is better, and at what cost."""


def _glance(documents: Sequence[Document], names: _Names) -> list[dict[str, Any]]:
    found = [f for document in documents for f in document.figures]
    return [_figure(f, names) for kind in FIRST for f in found if isinstance(f, kind)]


def _part(document: Document, names: _Names) -> dict[str, Any] | None:
    figures = [f for f in document.figures if not isinstance(f, FIRST)]
    notes = () if document.answers else document.notes  # else they stand with the answer
    if not (document.tables or figures or document.samples or notes or document.browser):
        return None
    shown = next((view for view in document.samples if view.strip), next(iter(document.samples), None))
    return {
        "name": names(document.name),
        "title": visible(document.title, one_line=True),
        "notes": [visible(note) for note in notes],
        "figures": [_figure(f, names) for f in figures],
        "tables": [_table(made, names) for made in document.tables],
        "samples": [_sample(view, names, view is shown) for view in document.samples],
        "browsed": document.browser is not None,
    }


def _figure(figure: Figure, names: _Names) -> dict[str, Any]:
    return {
        "title": visible(figure.title, one_line=True),
        "description": visible(figure.description, one_line=True),
        "svg": _markup(figure, names),
    }


def _markup(figure: Figure, names: _Names) -> str:
    """The figure twice: for a screen, and drawn for a phone; the style sheet shows one of them."""
    name = names(figure.name)
    wide, slim = (
        svg(replace(figure, name=name), WIDTH),
        svg(replace(figure, name=names(f"{name}-slim")), NARROW),
    )
    return f'<div class="wide">{wide}</div><div class="slim">{slim}</div>'


def _browser(documents: Sequence[Document]) -> str:
    """The data of the sample browser as JSON that no markup can end; empty without one."""
    found: Browser | None = next((d.browser for d in documents if d.browser), None)
    if found is None:
        return ""
    text = json.dumps(found.to_compact(), ensure_ascii=False, separators=(",", ":"))
    return visible(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _table(made: Table, names: _Names) -> dict[str, Any]:
    return {
        "name": names(made.name),
        "title": visible(made.title, one_line=True),
        "pieces": [_piece(made, columns) for columns in _pieces(made)],
        "legend": [visible(line, one_line=True) for line in made.legend()],
        "footers": [visible(line, one_line=True) for line in made.footers],
        "folded": made.folded,
    }


def _pieces(made: Table) -> list[list[Column]]:
    """The columns as they stand side by side, each time after those that name the row."""

    def width(column: Column) -> int:
        cells = [row.cell(column) for row in made.rows]
        texts = [column.heading, *(column.interval(c) or column.main(c) for c in cells)]
        texts += [published_text(column, c) for c in cells]
        return 3 + max(min(LONG, len(text)) for text in texts)

    columns = made.ungrouped
    fixed = [c for c in columns if c.kind == "name"]
    room = BROAD - sum(map(width, fixed))
    found: list[list[Column]] = [[]]
    used = 0
    for column in (c for c in columns if c.kind != "name"):
        if found[-1] and used + width(column) > room:
            found.append([])
            used = 0
        found[-1].append(column)
        used += width(column)
    return [[*fixed, *piece] for piece in found]


def _piece(made: Table, columns: Sequence[Column]) -> dict[str, Any]:
    groups = groupby(made.rows, key=lambda row: row.group)
    return {
        "spans": [(visible(g, one_line=True), n) for g, n in _spans(columns)],
        "heads": [
            {
                "heading": visible(c.heading, one_line=True),
                "unit": visible(c.unit, one_line=True),
                "classes": _classes(c, first=i == 0),
            }
            for i, c in enumerate(columns)
        ],
        "groups": [
            {
                "name": visible(name, one_line=True),
                "rows": [
                    [_cell(c, row.cell(c), first=i == 0) for i, c in enumerate(columns)] for row in rows
                ],
            }
            for name, rows in groups
        ],
    }


def _spans(columns: Sequence[Column]) -> list[tuple[str, int]]:
    return spans(columns) if any(c.group for c in columns) else []


def _classes(column: Column, *, first: bool, long: bool = False) -> str:
    kind = f"{column.kind} words" if long and column.kind == "text" else column.kind
    return f"{kind} stuck" if first and column.kind == "name" else kind


def _cell(column: Column, cell: Cell, *, first: bool) -> dict[str, Any]:
    interval = column.interval(cell)
    broken = " incomplete" if Mark.INCOMPLETE in cell.all_marks else ""
    return {
        "kind": column.kind,
        "classes": _classes(column, first=first, long=len(column.main(cell)) > LONG) + broken,
        "value": "" if cell.value is None else visible(str(cell.value), one_line=True),
        "main": visible(column.main(cell), one_line=True),
        "best": Mark.BEST in cell.marks,
        "signs": [{"mark": str(m), "symbol": SYMBOLS[m], "meaning": MEANINGS[m]} for m in cell.signs],
        "interval": f"[{interval}]" if interval else "",
        "published": visible(published_text(column, cell), one_line=True),
    }


def _sample(view: SampleView, names: _Names, shown: bool) -> dict[str, Any]:
    return {
        "open": shown,
        "title": visible(view.title, one_line=True),
        "facts": [tuple(visible(word, one_line=True) for word in fact) for fact in view.facts],
        "texts": [(visible(name, one_line=True), visible(words)) for name, words in view.texts],
        "svg": _markup(view.strip, names) if view.strip else "",
    }
