"""How far a sequence has been read by the beacon engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.inference.kvcache import KVCache


@dataclass(frozen=True)
class Reading:
    """How far one sequence has been read: memory (sinks, then beacons), then the raw entries of the open window.

    Attributes
    ----------
    cache
        ``memory + raw`` entries, rotated for their ranks.
    memory, raw
        Entries of each kind; ``raw`` is less than the interval, or, while no window is closed yet, than the
        sinks and the interval together.
    ratios
        The ratio of every window closed so far, in order (0: kept raw).
    counts
        Entries each of those windows holds in the memory; the sinks before them belong to none.
    tokens
        Ids of the open window's raw tokens, as many as ``raw``; empty where no beacon is fed any.
    """

    cache: KVCache = field(default_factory=KVCache)
    memory: int = 0
    raw: int = 0
    ratios: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()

    def closed(self, windows: int) -> Reading:
        """The state of when so many of its windows had closed and no more was read.

        An entry's place in the memory is final, and what is read later changes none before it.
        """
        entries = self.sinks + sum(self.counts[:windows]) if windows else 0
        return Reading(self.cache.slice(0, entries), entries, 0, self.ratios[:windows], self.counts[:windows])

    def entries(self, start: int, count: int, layer: int) -> Tensor:
        """Keys and values ``[2, kv_heads, count, head_dim]`` of a layer, from entry `start` on."""
        part = slice(start, start + count)
        return torch.stack((self.cache.keys[layer][:, part], self.cache.values[layer][:, part]))

    @property
    def sinks(self) -> int:
        """Entries of the memory that stand for no window."""
        return self.memory - sum(self.counts)


ChooseRatio = Callable[[int, int], int]
"""``(row, window index) -> ratio`` for the window of that row that has just filled."""
