"""What of a report fits on one page: the answer, and as much of what it rests on as there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..documents.document import Document
from ..documents.figures import Forest, Scatter
from ..documents.tables import Table

MOST_LINES = 30
"""Sentences of the answer that a page has room for."""


def briefs(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """Shorter and shorter forms of a report, each with the whole answer if a page can hold it.

    First two figures of score against cost and the table of scores stand below the differences; they go one by one.
    """
    answer = _answer(documents)
    figures = [f for document in documents for f in document.figures]
    forests = [_answered(f, answer) for f in figures if isinstance(f, Forest)][:1]
    costs = [f for f in figures if isinstance(f, Scatter)]
    scores = [t for document in documents for t in document.tables if t.name == "scores"][:1]
    one, two = costs[:1], costs[:2]
    for drawn, tables in ((two, scores), (two, []), (one, scores), (one, []), ([], scores), ([], [])):
        yield [answer, Document("brief", "Scores", [_bare(t) for t in tables], [*forests, *drawn])]
    yield [answer]


def _answer(documents: Sequence[Document]) -> Document:
    """The answers with their notes; of very many the first, and how many were left out."""
    made = next((d for d in documents if d.answers), Document("headline", "Answer"))
    answers, left, dropped = [], MOST_LINES, 0
    for each in made.answers:
        shown = each.lines[: max(0, left)]
        left -= len(shown) + 1
        dropped += len(each.lines) - len(shown)
        if shown:
            answers.append(replace(each, lines=shown))
    more = [f"{dropped} more comparisons are in the whole report."] if dropped else []
    return replace(made, answers=answers, notes=[*made.notes, *more], tables=(), figures=(), samples=())


def _answered(figure: Forest, answer: Document) -> Forest:
    """The differences that the answer speaks of, not those of each set they are made of."""
    subjects = tuple(each.subject for each in answer.answers)
    kept = [group for group in figure.groups if any(s.startswith(f"{group[0]} (") for s in subjects)]
    return replace(figure, groups=kept) if kept else figure


def _bare(table: Table) -> Table:
    """Without how its numbers were made, which the whole report says; warnings stay."""
    return replace(table, footers=[line for line in table.footers if line.startswith("! ")], folded=False)
