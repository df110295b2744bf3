"""Facts hidden among the sentences of a background text, as BABILong's code hides them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from harness.errors import UsageError

from ..ruler import sentences, sources

SHORTEST = 10
"""Sentences of fewer tokens are no background."""
CHARACTERS = 10
"""Characters of a book that are looked at, for each token that is wanted."""


@dataclass(frozen=True)
class Hidden:
    """The text, its background sentences, and before which of them each fact stands."""

    text: str
    sentences: int
    positions: tuple[int, ...]
    tokens: int


def ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a piece of text."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def background(found: Iterable[str], size: int, tokenizer: Any) -> list[list[int]]:
    """Sentences as tokens, a blank before each, up to exactly `size` together; the last is cut.

    At least one is taken, which is empty where there is no room. They are fewer if `found` ends.
    """
    taken: list[list[int]] = []
    total = 0
    for sentence in found:
        if len(ids(tokenizer, sentence)) < SHORTEST:
            continue
        tokens = ids(tokenizer, f" {sentence}")
        total += len(tokens)
        if total >= size:
            taken.append(tokens[: max(0, len(tokens) - (total - size))])
            break
        taken.append(tokens)
    return taken


def hide(
    facts: Sequence[str],
    found: Iterable[str],
    size: int,
    tokenizer: Any,
    seed: int,
    share: tuple[float, float] | None = None,
) -> Hidden:
    """`facts` in their order, between background sentences drawn with replacement; `size` tokens together.

    Parameters
    ----------
    found
        Background sentences.
    seed
        Of numpy's generator, which draws the places.
    share
        From and to which part of the size facts may stand; None: anywhere.

    Raises
    ------
    UsageError
        If the background is too short, or no place lies in the share.
    """
    told = [ids(tokenizer, f" {fact}") for fact in facts]
    length = sum(map(len, told))
    around = background(found, size - length, tokenizer)
    missing = size - length - sum(map(len, around))
    if missing > 0:
        raise UsageError(f"the background text ends {missing} tokens before the {size} that are wanted")
    places = _places(around, size, length, share)
    if not places:
        raise UsageError(f"no sentence begins in the share {share} of {size} tokens")
    positions = sorted(np.random.default_rng(seed).choice(places, len(facts)).tolist())
    parts: list[int] = []
    waiting = list(zip(positions, told))
    for number, sentence in enumerate([*around, []]):
        while waiting and waiting[0][0] == number:
            parts += waiting.pop(0)[1]
        parts += sentence
    text = str(tokenizer.decode(parts))
    return Hidden(text, len(around), tuple(positions), len(parts))


def _places(
    around: Sequence[list[int]], size: int, facts: int, share: tuple[float, float] | None
) -> list[int]:
    """Numbers of the sentences before which a fact may stand."""
    if share is None:
        return list(range(len(around) + 1))
    starts = [0, *np.cumsum([len(sentence) for sentence in around]).tolist()][: len(around)]
    low, high = int(share[0] * size), int(share[1] * size) - facts
    return [number for number, start in enumerate(starts) if low <= start < high]


@cache
def splitter() -> str:
    """What parts books into sentences here: ``punkt``, nltk's without training, as officially; or ``rules``."""
    try:
        from nltk.tokenize.punkt import PunktSentenceTokenizer  # noqa: F401
    except ImportError:
        return "rules"
    return "punkt"


def from_books(books: Sequence[str], size: int, rng: random.Random) -> Iterator[str]:
    """Background sentences: a random book from a random character on, then another, without end.

    Of each piece the first and the last sentence are left out: they are rarely whole.
    """
    while True:
        book = rng.choice(books)
        start = rng.randrange(len(book))
        piece = book[start : start + CHARACTERS * max(size, 1)]
        yield from split(piece)[1:-1]


def split(text: str) -> list[str]:
    """The sentences of a text."""
    if splitter() == "punkt":
        from nltk.tokenize.punkt import PunktSentenceTokenizer

        return [str(sentence) for sentence in PunktSentenceTokenizer().tokenize(text)]
    words = text.split()
    return [" ".join(words[start:end]) for start, end in pairwise([0, *sentences.ends(words)])]


def own_text(rng: random.Random) -> Iterator[str]:
    """Background sentences of random words, without end: they say nothing, and name no person."""
    adjectives, nouns = sources.word_list("adjective"), sources.word_list("noun")
    while True:
        first, second, third = (f"{rng.choice(adjectives)} {rng.choice(nouns)}" for _ in range(3))
        yield f"Beside the {first} lay a {second}, and nobody could say why the {third} had been so quiet."
