"""Contexts of the experts recipe: numbered passages, evidence among distracting ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from harness.contracts.draft import Part, Passage
from harness.contracts.recipe import Items, LengthRange

from .filling import Deck, fill

SUFFIX_SLACK = 8
"""Tokens kept free because the numbers of the passages asked about are not known before they are shuffled."""

Source = tuple[str, int, str]


def key(source: Source) -> tuple[str, str, int]:
    """(stage, field, index) of a source: what names its text in the pool's sizes."""
    return source[0], source[2], source[1]


def head(number: int) -> str:
    """What stands before a passage: its number, from 1, and a blank line between two."""
    return f"Passage {number}:\n" if number == 1 else f"\n\nPassage {number}:\n"


def passages_of(order: Sequence[Source], evidence: Sequence[Source]) -> list[Passage]:
    """The passages of a context in that order, numbered, those in `evidence` marked."""
    wanted = set(evidence)
    return [
        Passage((Part(head(number)), Part(None, source)), source in wanted)
        for number, source in enumerate(order, 1)
    ]


def shuffled(
    pool: Items,
    rng: random.Random,
    length: LengthRange,
    given: Sequence[Source],
    nouns: set[str],
    suffix: str,
    answer: str,
    target: int | None = None,
) -> tuple[list[Source], int]:
    """The given texts among distracting passages about other nouns, shuffled; and the repetitions."""
    deck = Deck(rng, pool.usable("passage"), lambda index: pool.noun(index) in nouns)

    def cost(source: Source, number: int) -> int:
        return pool.size(*key(source))[0] + pool.count(head(number))

    used = pool.count(suffix) + pool.count(answer) + SUFFIX_SLACK
    used += sum(cost(source, number) for number, source in enumerate(given, 1))
    wanted = rng.randint(length.low, length.high) if target is None else target
    price: Callable[[int, int], int] = lambda index, number: cost(("passage", index, "text"), number)  # noqa: E731
    others, repeats = fill(deck, wanted, length, used, len(given), price)
    order = [*given, *(("passage", index, "text") for index in others)]
    rng.shuffle(order)
    return order, repeats


def in_order(order: Sequence[Source], blocks: Sequence[Source]) -> list[Source]:
    """The same places, with the steps of each program in the order they were written."""
    waiting: dict[int, list[Source]] = {}
    for source in blocks:
        waiting.setdefault(source[1], []).append(source)
    code = set(blocks)
    return [waiting[source[1]].pop(0) if source in code else source for source in order]
