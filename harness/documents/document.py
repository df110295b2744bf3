"""A report as data: tables, figures and samples under one title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .tables import Table

if TYPE_CHECKING:
    from .browser import Browser
    from .figures import Figure, Strip


@dataclass(frozen=True)
class SampleView:
    """One sample to look at: short facts, texts that a model or a file wrote, and its strip if it has one."""

    title: str
    facts: Sequence[tuple[str, str]]
    texts: Sequence[tuple[str, str]]
    strip: Strip | None = None


@dataclass(frozen=True)
class Answer:
    """What was found of one subject: sentences, each after its verdict (``better``, ``worse``, or another word)."""

    subject: str
    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Document:
    """What a report comes to; `harness.render` writes it in any format.

    `answers` come before everything else; `browser` is every sample, for a page alone; `notes` are lines for the
    reader that belong to no single table.
    """

    name: str
    title: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    samples: Sequence[SampleView] = ()
    notes: Sequence[str] = field(default=())
    answers: Sequence[Answer] = ()
    browser: Browser | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.tables or self.figures or self.samples or self.notes or self.answers)

    def to_json(self) -> dict[str, Any]:
        """Everything, unrounded."""
        return {
            "name": self.name,
            "title": self.title,
            "answers": [asdict(answer) for answer in self.answers],
            "tables": [table.to_json() for table in self.tables],
            "figures": [{"kind": type(f).__name__.lower(), **asdict(f)} for f in self.figures],
            "samples": [asdict(sample) for sample in self.samples],
            "notes": list(self.notes),
        }
