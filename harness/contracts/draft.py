"""A sample as a recipe puts it together: which parts of the pool, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Part(NamedTuple):
    """A piece of a sample's text: words of the template, or a field of a record that is read when written.

    Attributes
    ----------
    text
        The words; None for a field.
    source
        (stage, index, field); None for words.
    """

    text: str | None
    source: tuple[str, int, str] | None = None


class Passage(NamedTuple):
    """A stretch of the context. `evidence`: the answer depends on it. A number is its place, from 1."""

    parts: tuple[Part, ...]
    evidence: bool = False


@dataclass(frozen=True)
class Draft:
    """A sample before it is written: a plan that refers to the pool, small however long the sample is.

    Attributes
    ----------
    kind
        What is asked, within the task; the task's name where it asks one thing only.
    prefix, suffix
        Words before and after the passages.
    answer
        The whole output, beginning with `label`.
    label
        What the answer is introduced by (``"Answer: "``); may be empty.
    question
        The bare question in the suffix; empty where there is none.
    repeats
        Passages that stand in the context a second time, because the pool could not fill the length.
    learn
        What training learns of it: ``"answer"``, or ``"all"``, prompt included.
    facts
        JSON-ready: more that is known of it, kept in its line.
    """

    kind: str
    prefix: str
    passages: Sequence[Passage]
    suffix: str
    answer: str
    label: str = ""
    question: str = ""
    repeats: int = 0
    learn: str = "answer"
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exchange:
    """A question of a dialogue and its answer, after what is read before it.

    Attributes
    ----------
    kind
        What is asked.
    read
        Pieces of the documents that come before the question; often none.
    question, answer
        Pieces of the question, and of its answer.
    about
        Numbers of the documents asked about, from 1, in the order they are read.
    evidence
        Sources (as in `Part`) of the pieces that the answer was written from; all of them stand before it.
    """

    kind: str
    read: tuple[Part, ...]
    question: tuple[Part, ...]
    answer: tuple[Part, ...]
    about: tuple[int, ...] = ()
    evidence: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """A sample of several turns: documents, and questions about them; small like a `Draft`.

    Attributes
    ----------
    kind
        What kind of dialogue, within the task.
    exchanges
        In order; at least one.
    documents
        How many are read in it.
    missing
        Questions that should be there and are not, because the pool had none left.
    learn
        What training learns of it: ``"answer"`` (every answer), or ``"all"``.
    """

    kind: str
    exchanges: Sequence[Exchange]
    documents: int
    missing: int = 0
    learn: str = "answer"
