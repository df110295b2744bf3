"""Longest common subsequences of word lists, fast enough for answers of tens of thousands of words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.unsignedinteger[Any]]


def lengths(first: Sequence[str], second: Sequence[str]) -> Lengths:
    """Length of the longest common subsequence of each pair of beginnings: ``[len(first) + 1, len(second) + 1]``."""
    codes: dict[str, int] = {}
    one, two = (
        np.array([codes.setdefault(word, len(codes)) for word in words], dtype=np.int64)
        for words in (first, second)
    )
    kind = np.uint16 if min(len(one), len(two)) < 2**16 else np.uint32
    table: Lengths = np.zeros((len(one) + 1, len(two) + 1), dtype=kind)
    for row, code in enumerate(one, 1):
        before = table[row - 1]
        # A match is one longer than what came before both words; otherwise the better neighbour: a running maximum.
        np.maximum.accumulate(
            np.where(two == code, before[:-1] + kind(1), before[1:]), out=table[row, 1:], dtype=kind
        )
    return table


class WordIndex:
    """Which of several word lists hold a word, equal ones counted once."""

    def __init__(self, lists: Iterable[Sequence[str]]) -> None:
        self.lists = list(dict.fromkeys(tuple(words) for words in lists))
        self._holding: dict[str, list[int]] = {}
        for number, words in enumerate(self.lists):
            for word in dict.fromkeys(words):
                self._holding.setdefault(word, []).append(number)

    def holding(self, words: Iterable[str]) -> list[int]:
        """Numbers of the lists that hold any of these words, ascending."""
        return sorted({number for word in set(words) for number in self._holding.get(word, ())})
