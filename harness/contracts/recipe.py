"""The contract of a recipe: how synthetic long-context samples come about, in two stages kept apart.

The expensive one asks a generator for short items (stories, questions about them, summaries) and keeps them
in a pool. The cheap one puts items together into samples of any length, without generating anything.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ..errors import HarnessError, UsageError
from ..options import Options as BaseOptions
from .draft import Dialogue, Draft


class Items(Protocol):
    """A pool, as a recipe sees it; `record` and `usable` know the stages that came before."""

    tokenizer: Any
    """Of the model that counts; for recipes that cut texts by tokens."""

    def noun(self, index: int) -> str:
        """The noun of that number; they begin anew after the last one."""
        ...

    def record(self, stage: str, index: int) -> dict[str, Any] | None:
        """What a stage made for that index; None if it was dropped or never asked for."""
        ...

    def usable(self, stage: str) -> Sequence[int]:
        """Indices that `record` has something for, ascending."""
        ...

    def size(self, stage: str, field: str, index: int) -> tuple[int, int]:
        """(tokens, characters) of a measured field, from memory: no text is read or tokenised."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a short text, remembered."""
        ...


@dataclass(frozen=True)
class Dropped:
    """What `Stage.judge` returns for an answer that is of no use; the card counts reasons."""

    reason: str


@dataclass(frozen=True, eq=False)
class Stage:
    """A kind of item. Item `i` of a stage may build on records of earlier stages.

    Attributes
    ----------
    name
        Of the file in the pool, and of the count in the card.
    size
        How many items.
    expected
        New tokens an item will take, about: for the estimate.
    ask
        The request for an index; the record itself if it follows from earlier ones without asking; None if
        what it builds on was dropped.
    judge
        The record made of an answer, JSON-ready, or `Dropped`.
    measured
        Fields of the record that samples are put together from, each with what stands before it there, a
        blank or nothing: many tokenizers make a blank part of the word that follows.
    """

    name: str
    size: int
    expected: int
    ask: Callable[[int, Items], Request | dict[str, Any] | None]
    judge: Callable[[int, Items, Answer], dict[str, Any] | Dropped]
    measured: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LengthRange:
    """Tokens a sample may have, prompt and answer together, both ends included."""

    low: int
    high: int


class TooShort(HarnessError):
    """A draft that cannot be made within the range: `tokens` is what it takes at least."""

    def __init__(self, tokens: int) -> None:
        super().__init__(f"takes at least {tokens} tokens")
        self.tokens = tokens


class NoItems(HarnessError):
    """The pool has no usable item of a kind that a task needs."""


class Draw(random.Random):
    """What a sample draws from, the same for the same sample.

    Attributes
    ----------
    number
        Which of its task's samples it is, from 0: a recipe that wants each item once before any comes twice goes by it.
    attempt
        How many drafts of this sample did not fit the range before.
    """

    number: int = 0
    attempt: int = 0


class Recipe(ABC):
    """A way of making samples. Subclass it and name it in an entry point of ``harness.recipes``.

    Class attributes
    ----------------
    Options
        Set with ``--set option=value``.
    version, changelog
        The version changes whenever a pool or a sample may change; the changelog says why, newest last.
    tasks
        Names of the tasks, and how many samples of each the paper has: proportions for any other number.
    default_range
        Lengths without ``--length-range``; None: the recipe has a rule of its own.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: first version",)
    tasks: ClassVar[Mapping[str, int]]
    default_range: ClassVar[LengthRange | None] = None

    def __init__(self, options: BaseOptions) -> None:
        self.options = options

    def sources(self) -> dict[str, Any]:
        """JSON-ready: what items depend on besides the options, such as documents, by their hashes.

        It stands in the pool's identity in place of the options of those names: a pool of other documents is never
        gone on with, and one of the same documents in another place is.
        """
        return {}

    def requests(self) -> Mapping[str, tuple[int, int]]:
        """For each kind of request the most tokens of its prompt and of its answer, where that can be said.

        A generator that cannot read so much is refused before anything is generated.
        """
        return {}

    @abstractmethod
    def items(self, count: int, nouns: int) -> int:
        """How many items (of the first stage) to generate for `count` samples, by default."""

    @abstractmethod
    def stages(self, items: int, seed: int) -> list[Stage]:
        """Every kind of item, in the order they are generated."""

    @abstractmethod
    def draft(self, task: str, pool: Items, rng: Draw, length: LengthRange | None) -> Draft | Dialogue:
        """Plan one sample.

        Raises
        ------
        TooShort
            If nothing within the range can be made of what was drawn.
        NoItems
            If the pool has nothing that the task could be made of.
        """


def share(count: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`count` divided in proportion to `weights`, by largest remainder; ties go to the earlier name.

    Examples
    --------
    >>> share(10, {"qa": 4000, "summarization": 2000, "few": 1000})
    {'qa': 6, 'summarization': 3, 'few': 1}
    """
    total = sum(weights.values())
    shares = {name: count * weight // total for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: -(count * weights[name] % total))
    for name in by_remainder[: count - sum(shares.values())]:
        shares[name] += 1
    return shares


def intervals(span: tuple[int, int], interval: int) -> range:
    """Which intervals of so many tokens a span ``[start, end)`` of tokens touches, counted from 0.

    Examples
    --------
    >>> intervals((1000, 2049), 1024)
    range(0, 3)
    """
    start, end = span
    if interval < 1 or not 0 <= start < end:
        raise UsageError(f"no interval of {interval} tokens over the span {start}..{end}")
    return range(start // interval, (end - 1) // interval + 1)


@dataclass(frozen=True)
class Request:
    """One question to a generator.

    Attributes
    ----------
    key
        Names the item and its stage, unique in a pool: with the seed it decides every draw.
    prompt
        The user's turn, without chat template.
    max_tokens
        Most new tokens of the answer.
    temperature
        Divides the logits; above 0.
    top_k
        Only so many most likely tokens are drawn from.
    """

    key: str
    prompt: str
    max_tokens: int
    temperature: float
    top_k: int


@dataclass(frozen=True)
class Answer:
    """What a generator wrote: the text, whether it ended by itself, and its length in new tokens."""

    text: str
    ended: bool
    tokens: int
