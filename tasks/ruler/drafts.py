"""What every generator makes, and what it says about itself so that a length can be fitted."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from harness.contracts import Prompt

from .protocol import SHORT


@dataclass(frozen=True)
class Draft:
    """A question that may still be too long. `facts` are JSON-ready and go into the sample's metadata."""

    prompt: Prompt
    answer_prefix: str
    references: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)


class Maker(ABC):
    """A generator: draws questions whose text is made of a given number of units.

    Attributes
    ----------
    minimum
        Fewest units a question can have.
    grid
        Sizes that are tried differ from one another by multiples of this many units.
    increment
        Units that a question which is too long loses at a time (the official number).
    plateau
        Above this size other data is needed; not tried unless it fits. None: there is no such size.
    available
        How many different questions there are; None: any number.
    margin
        Tokens by which a count of words may be off at least, whatever a calibration finds.
    """

    minimum: int = 1
    grid: int = 1
    increment: int = 10
    plateau: int | None = None
    available: int | None = None
    margin: int = 0

    @abstractmethod
    def draw(self, units: int, rng: random.Random, index: int) -> Draft:
        """Question number `index` with `units` units; the same for the same units, state of `rng`, index."""


def shuffled(items: list[Any], seed: int) -> list[Any]:
    """`items` in an order that depends on how many they are and on `seed` alone.

    The official generators shuffle with a new generator of the run's seed for each sample, so that the n
    needles of all samples lie in the same permutation. That is kept.
    """
    random.Random(seed).shuffle(items)
    return items


def smaller_below(length: int, usual: int) -> int:
    """The official step of the noise, needle and vt texts: `usual`, but 5 below 4K."""
    return usual if length >= SHORT else 5
