"""Condensing windows by other ratios than a first pass did, from the raw entries that pass computed.

Reading a text again costs what reading it once costs, and most of that are the raw tokens. Their entries of the first
pass saw what came before them through that pass's memory, not through the new one: that is the only difference. An
interval that stays raw takes them as they are, one of the first pass's ratio takes its beacons, and for any other only
its beacons are computed, over the new memory and the raw entries. Keys are turned to the places they get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from harness.inference import KVCache
from harness.inference.forward import turning
from harness.inference.tensors import sent

from . import together
from .layout import Engine
from .pieces import Kept, Known, Piece
from .ratios import RAW, entries
from .reading import Reading


def condensed_again(
    engine: Engine,
    tokens: Sequence[Sequence[int]],
    firsts: Sequence[Reading],
    kept: Sequence[Kept],
    chosen: Sequence[Sequence[int]],
) -> list[Reading]:
    """The states after the windows that `chosen` has a ratio for, all of them closed in a first pass.

    What leads with the first pass's ratios is exactly what reading again would give, and so are the window after it and
    whatever else saw the same memory.

    Parameters
    ----------
    engine
        An `ActivationBeacon`.
    tokens
        Ids of each row from its beginning.
    firsts, kept
        The first pass's states, which began with nothing, and what it kept.
    chosen
        For each row the ratios of its first windows.
    """
    same = [leading(own, first.ratios) for own, first in zip(chosen, firsts)]
    begun = [
        first.closed(n) if n else Reading(cache=raw.first(engine.sinks), raw=engine.sinks)
        for n, first, raw in zip(same, firsts, kept)
    ]
    pieces, after = [], []
    for row, state in enumerate(begun):
        found, state = _planned(engine, row, tokens[row], firsts[row], kept[row], chosen[row], state)
        pieces.append(found)
        after.append(state)
    stores = together.stores_for(begun, pieces)
    for _ in together.passes(engine, pieces, stores):
        pass
    return together.settled(begun, pieces, after, stores)


def leading(chosen: Sequence[int], first: Sequence[int]) -> int:
    """How many windows at the beginning have the first pass's ratio."""
    return next((i for i, (own, other) in enumerate(zip(chosen, first)) if own != other), len(chosen))


def _planned(
    engine: Engine,
    row: int,
    tokens: Sequence[int],
    first: Reading,
    kept: Kept,
    chosen: Sequence[int],
    state: Reading,
) -> tuple[list[Piece], Reading]:
    """The pieces of a row after the windows it has already, and its state after them but for the cache."""
    interval, network = engine.interval, engine.network
    then = [
        first.sinks + sum(first.counts[:k]) for k in range(len(chosen))
    ]  # where the first pass had its entries
    now, begun = [], len(state.ratios)
    for ratio in chosen[begun:]:
        now.append(state.memory if state.ratios else engine.sinks)
        state = engine.closed(state, KVCache(), now[-1], ratio)
    shifts = sent(torch.tensor([new - then[begun + k] for k, new in enumerate(now)]), network.device)
    pieces = []
    for k, base in enumerate(now, start=begun):
        ratio, where = chosen[k], then[k]
        turn = None if base == where else turning(network, shifts[k - begun : k - begun + 1])
        same = ratio == first.ratios[k]
        count = first.counts[k] if same else interval
        held = partial(first.entries, where, count) if same else partial(kept.window, k, interval)
        known = Known(count, _turned(held, turn))
        computed = 0 if same or ratio == RAW else entries(ratio, interval)
        end = engine.sinks + (k + 1) * interval
        seen = tuple(tokens[end - interval : end])
        pieces.append(Piece(row, (), seen, 0, base, base, ratio, computed, known))
    return pieces, state


def _turned(
    layer: Callable[[int], Tensor], turn: Callable[[Tensor], Tensor] | None
) -> Callable[[int], Tensor]:
    """Keys and values of each layer, the keys turned."""
    if turn is None:
        return layer

    def turned(index: int) -> Tensor:
        both = layer(index)
        return torch.stack((turn(both[0]), both[1]))

    return turned
