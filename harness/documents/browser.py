"""All samples of all runs as data for a page: small enough for 50,000 of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class BrowsedAnswer:
    """What one run made of a sample.

    Attributes
    ----------
    score
        Main score x 100; None of one that failed.
    text
        The answer, or the error.
    state
        ``right`` (full score), ``wrong`` (0), ``partly`` or ``failed``.
    cut, lost
        Whether the prompt was truncated, and whether every accepted answer went with that.
    facts
        Prompt tokens, KV entries, seconds, in words.
    ratios
        Of a method in intervals: tokens for one KV entry of each; 0: kept as it is.
    holder
        The interval that holds the answer.
    """

    score: float | None
    text: str
    state: str
    cut: bool = False
    lost: bool = False
    facts: str = ""
    ratios: Sequence[int] = ()
    holder: int | None = None


@dataclass(frozen=True)
class BrowsedSample:
    """A sample with the answers of all runs, None where a run was not asked; texts are excerpts."""

    task: str
    id: str
    accepted: Sequence[str]
    answers: Sequence[BrowsedAnswer | None]
    question: str = ""
    begin: str = ""
    end: str = ""
    place: str = ""


@dataclass(frozen=True)
class Browser:
    """What a page's sample browser shows: `runs` are labels in the order of each sample's answers."""

    runs: Sequence[str]
    samples: Sequence[BrowsedSample] = field(default=())

    def to_compact(self) -> dict[str, Any]:
        """Lists instead of objects, names once: what the page's script reads."""
        tasks = list(dict.fromkeys(s.task for s in self.samples))
        number = {name: i for i, name in enumerate(tasks)}
        return {
            "runs": list(self.runs),
            "tasks": tasks,
            "samples": [
                [
                    number[s.task],
                    s.id,
                    s.question,
                    s.begin,
                    s.end,
                    s.place,
                    list(s.accepted),
                    [None if a is None else _answer(a) for a in s.answers],
                ]
                for s in self.samples
            ],
        }


STATES = ("right", "partly", "wrong", "failed")


def _answer(a: BrowsedAnswer) -> list[Any]:
    flags = (1 if a.cut else 0) + (2 if a.lost else 0)
    score = None if a.score is None else round(a.score, 1)
    found: list[Any] = [STATES.index(a.state), score, a.text, flags, a.facts]
    return [*found, list(a.ratios), a.holder] if a.ratios else found
