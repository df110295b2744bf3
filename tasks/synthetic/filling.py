"""Contexts of a wanted length out of a pool of passages."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

from harness.contracts.recipe import Draw, LengthRange, NoItems, TooShort

TRIES = 24
"""Passages looked at for the one that brings a context closest to its length."""


def pick(rng: random.Random, indices: Sequence[int]) -> int:
    """One index at random. Raises NoItems if there is none."""
    if not indices:
        raise NoItems("no usable item")
    return rng.choice(indices)


def in_turn(rng: Draw, indices: Sequence[int], seed: str) -> int:
    """The index of this sample: each once, in an order that looks random, before any comes a second time.

    Where a draft with it did not fit, another one at random. Takes the same time for any number of indices. Raises
    NoItems if there is none.
    """
    size = len(indices)
    if not size or rng.attempt:
        return pick(rng, indices)
    start = random.Random(f"{seed}-{size}").randrange(size)
    step = next(n for n in itertools.count(int(0.618 * size) + 1) if math.gcd(n, size) == 1)
    return indices[(start + rng.number * step) % size]


class Deck:
    """Indices in random order, each once before any comes a second time.

    Costs nothing for what is not drawn, however large the pool is.

    Parameters
    ----------
    rng
        Where the order comes from.
    indices
        What to draw from.
    reject
        Indices that are never drawn (the evidence itself; another passage about its noun).
    """

    def __init__(
        self, rng: random.Random, indices: Sequence[int], reject: Callable[[int], bool] = lambda _: False
    ) -> None:
        self._rng = rng
        self._indices = indices
        self._reject = reject
        self._swapped: dict[int, int] = {}
        self._drawn = 0
        self._found = False
        self.round = 0

    def draw(self) -> int | None:
        """The next index; `round` says how often all had been drawn before. None if there is none at all."""
        while True:
            if self._drawn == len(self._indices):
                if not self._found:
                    return None
                self._swapped, self._drawn, self._found = {}, 0, False
                self.round += 1
            # Fisher and Yates' shuffle, keeping only the places that were touched.
            place = self._rng.randrange(self._drawn, len(self._indices))
            chosen = self._swapped.get(place, place)
            self._swapped[place] = self._swapped.get(self._drawn, self._drawn)
            self._drawn += 1
            if not self._reject(self._indices[chosen]):
                self._found = True
                return self._indices[chosen]

    def take(self, number: int) -> list[int]:
        """So many different indices, or as many as there are."""
        found: list[int] = []
        while len(found) < number and (index := self.draw()) is not None and not self.round:
            found.append(index)
        return found


def fill(
    deck: Deck, target: int, length: LengthRange, used: int, number: int, cost: Callable[[int, int], int]
) -> tuple[list[int], int]:
    """Passages that bring a context as close to `target` tokens as the pool allows, never above the range.

    Parameters
    ----------
    used, number
        Tokens and passages that are there already.
    cost
        Tokens of passage (index, its number in the context).

    Returns
    -------
    tuple
        The indices, and how many of them are repetitions.

    Raises
    ------
    TooShort
        If what is there already is above the range.
    """
    if used > length.high:
        raise TooShort(used)
    taken: list[int] = []
    repeats = 0
    while (index := deck.draw()) is not None:
        more = cost(index, number + len(taken) + 1)
        if used + more > target:
            break
        taken.append(index)
        repeats += deck.round > 0
        used += more
    best: tuple[int, int, int] | None = None
    start = deck.round
    for _ in range(TRIES):
        if index is None or (deck.round > start and best is not None):
            break
        total = used + cost(index, number + len(taken) + 1)
        if total <= length.high and (best is None or abs(total - target) < best[0]):
            best = abs(total - target), index, deck.round
        index = deck.draw()
    if best is not None and (used < length.low or best[0] < target - used):
        taken.append(best[1])
        repeats += best[2] > 0
    return taken, repeats
