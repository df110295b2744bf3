"""What the second pass takes over of the first, so that it reads less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..beacon.again import condensed_again, leading
from ..beacon.engine import ActivationBeacon
from ..beacon.pieces import Kept
from ..beacon.reading import Reading


@dataclass(frozen=True)
class FirstPass:
    """A first pass over one prompt: how far it has read, and the raw entries it kept (none unless asked to)."""

    reading: Reading
    kept: Kept


def taken_over(
    engine: ActivationBeacon,
    tokens: Sequence[Sequence[int]],
    firsts: Mapping[int, FirstPass],
    chosen: Sequence[Sequence[int]],
) -> list[Reading]:
    """The states the second pass goes on from, one for each of `tokens`; a row without a first pass begins anew.

    Where raw entries were kept, no interval has to be read again. Else none of the leading ones that the first pass
    condensed by the same ratio: the same tokens give the same entries.
    """
    begun = [Reading()] * len(tokens)
    rows = [i for i, first in firsts.items() if first.kept.windows]
    for i, first in firsts.items():
        if i not in rows and (same := leading(chosen[i], first.reading.ratios)):
            begun[i] = first.reading.closed(same)
    if rows:
        states = condensed_again(
            engine,
            [tokens[i] for i in rows],
            [firsts[i].reading for i in rows],
            [firsts[i].kept for i in rows],
            [chosen[i] for i in rows],
        )
        for i, state in zip(rows, states):
            begun[i] = state
    return begun
