"""Documents in each of the formats: what `harness.render` hands on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..documents.document import Document, SampleView
from ..documents.tables import Table
from . import delimited, latex, markdown
from ._text import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS = ("terminal", "markdown", "latex", "csv", "json", "html")


def as_terminal(documents: Iterable[Document], width: int, *, compact: bool = False) -> RenderableType:
    """Answers, tables and notes for a terminal of so many columns; figures are left to the page.

    What stands under every table is said once, at the end. With `compact` each table is one, in the least room,
    without those that a page folds beside others and without how its numbers were made; warnings and the meanings of
    marks stay.
    """
    from rich.console import Group
    from rich.text import Text

    from . import terminal

    parts: list[RenderableType] = []
    found = list(documents)
    shown = [table for document in found for table in (_unfolded(document) if compact else document.tables)]
    common = (
        list(dict.fromkeys(line for t in shown for line in _short_notes(t))) if compact else _common(shown)
    )
    for document in found:
        if document.answers:
            parts += [*terminal.answers(document.answers, width), Text()]
        parts += [Text(visible(note), style="yellow") for note in document.notes]
        for table in document.tables:
            if table in shown:
                parts.append(terminal.table(table, width, leave_out=common, compact=compact))
        parts += [Text(_plain(view) + "\n") for view in document.samples]
    return Group(*parts, *terminal.notes(common, width))


def _unfolded(document: Document) -> list[Table]:
    """A report's tables without the folded ones, or all of one that has no others: it was asked for by its name."""
    return [table for table in document.tables if not table.folded] or list(document.tables)


def _short_notes(made: Table) -> list[str]:
    """What a reader of the compact form cannot do without: warnings, and what marks mean."""
    return [*(line for line in made.footers if line.startswith("! ")), *made.legend()]


def _common(found: Sequence[Table]) -> list[str]:
    """Notes that stand under each of several tables."""
    if len(found) < 2:
        return []
    return [note for note in found[0].notes() if all(note in table.notes() for table in found[1:])]


def as_markdown(documents: Iterable[Document], title: str) -> str:
    """A heading, then each report with its tables and notes."""
    parts = [f"# {markdown.escape(title)}\n"]
    for document in documents:
        if document.title != title:
            parts.append(f"## {markdown.escape(document.title)}\n")
        parts += [markdown.answer(answer) for answer in document.answers]
        parts += [f"{markdown.escape(note)}\n" for note in document.notes]
        parts += [markdown.table(table) for table in document.tables]
        parts += [f"```text\n{_plain(view).replace('```', '` ` `')}\n```\n" for view in document.samples]
    return "\n".join(parts)


def as_latex(documents: Iterable[Document]) -> str:
    """Every table, for a file that is ``\\input`` where booktabs and graphicx are loaded."""
    head = "% \\usepackage{booktabs,graphicx}\n"
    return head + "\n".join(latex.table(table) for table in tables(documents))


def as_json(documents: Iterable[Document], title: str) -> str:
    """Everything unrounded, figures as their numbers; ASCII, so that no terminal obeys it."""
    content = {"title": title, "reports": [document.to_json() for document in documents]}
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=True) + "\n"


def as_csv(table: Table) -> str:
    """One table."""
    return delimited.table(table)


def as_html(
    documents: Sequence[Document],
    title: str,
    lede: Sequence[str] = (),
    colophon: str = "",
    *,
    sheet: bool = False,
) -> str:
    """One self-contained page; as a `sheet` it is set small on paper."""
    from .page import page

    return page(documents, title, lede, colophon, sheet=sheet)


def tables(documents: Iterable[Document]) -> list[Table]:
    """All tables, in order."""
    return [table for document in documents for table in document.tables]


def _plain(view: SampleView) -> str:
    """A sample in words, controls made visible."""
    facts = [f"  {name}: {value}" for name, value in view.facts]
    texts = [f"  {name}: {value}" for name, value in view.texts]
    return visible("\n".join([view.title, *facts, *texts]))
