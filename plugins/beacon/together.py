"""Many intervals in one forward pass: how a text is laid out over passes, and what is left of them.

What an interval's raw tokens see of the intervals before are their beacons in the same layer. Those are known as soon
as that layer has attended to them, so nothing has to wait for a whole pass: projections, norms and feed-forward take
all tokens and beacons of many intervals in one product each, where a pass an interval would call them for a few hundred
rows, and for a few dozen beacons again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.contracts.phases import step
from harness.inference import KVCache
from harness.models import attention

from .layout import Engine, Layout
from .pieces import Kept, Piece, Store
from .ratios import RAW, entries
from .reading import ChooseRatio, Reading

TOGETHER = {"cpu": 1024, "cuda": 8192}
"""Raw tokens of a pass by kind of device; whole intervals, and one of each row at least.

On a processor more gains nothing and leaves its caches; a GPU waits for the launches of each pass.
"""


def possible(network: Any) -> bool:
    """Whether passes can be laid out here: nothing learns from them, and attention is the harness's."""
    ours = getattr(network.config, "_attn_implementation", None) == attention.ATTENTION
    return ours and not torch.is_grad_enabled()


def planned(
    engine: Engine,
    readings: Sequence[Reading],
    tokens: Sequence[Sequence[int]],
    ratio: ChooseRatio,
) -> tuple[list[list[Piece]], list[Reading]]:
    """The pieces of each row in order, and its state after them but for the cache."""
    pieces: list[list[Piece]] = []
    after = []
    for row, (state, ids) in enumerate(zip(readings, tokens)):
        found: list[Piece] = []
        done = 0
        while done < len(ids):
            chunk = ids[done : done + engine.room(state)]
            begin, base = state.memory + state.raw, state.memory if state.ratios else engine.sinks
            state = engine.extended(state, KVCache(), chunk)
            closes = engine.room(state) == 0
            by = ratio(row, len(state.ratios)) if closes else None
            number = entries(by, engine.interval) if by is not None and by != RAW else 0
            found.append(Piece(row, chunk, state.tokens, done, begin, base, by, number))
            if by is not None:
                state = engine.closed(state, KVCache(), base, by)
            done += len(chunk)
        pieces.append(found)
        after.append(state)
    return pieces, after


def read(
    engine: Engine,
    readings: Sequence[Reading],
    tokens: Sequence[Sequence[int]],
    ratio: ChooseRatio,
    on_hidden: Callable[[int, int, Tensor], None] | None = None,
    kept: Sequence[Kept] | None = None,
) -> list[Reading]:
    """What `ActivationBeacon.read` does, in fewer passes; same parameters, same results up to rounding."""
    pieces, after = planned(engine, readings, tokens, ratio)
    stores = stores_for(readings, pieces)
    for together, hidden in passes(engine, pieces, stores, kept, wanted=on_hidden is not None):
        at = 0
        for piece in together if on_hidden is not None else ():
            on_hidden(piece.row, piece.offset, hidden[at : at + len(piece.ids)])  # type: ignore[misc]
            at += len(piece.ids)
    return settled(readings, pieces, after, stores)


def stores_for(readings: Sequence[Reading], pieces: Sequence[Sequence[Piece]]) -> list[Store]:
    """Room for what each row holds while its pieces are read."""
    rooms = [max((p.end + p.beacons for p in own), default=0) for own in pieces]
    return [Store(state.cache, room) for state, room in zip(readings, rooms)]


def settled(
    readings: Sequence[Reading],
    pieces: Sequence[Sequence[Piece]],
    after: Sequence[Reading],
    stores: Sequence[Store],
) -> list[Reading]:
    """The states after all pieces, with their caches; a row without any stays as it was."""
    return [
        replace(state, cache=store.cache(state.memory + state.raw)) if own else before
        for before, own, state, store in zip(readings, pieces, after, stores)
    ]


def passes(
    engine: Engine,
    pieces: Sequence[Sequence[Piece]],
    stores: Sequence[Store],
    kept: Sequence[Kept] | None = None,
    *,
    wanted: bool = False,
) -> Iterator[tuple[list[Piece], Tensor]]:
    """Read the pieces of all rows, as many in a pass as `TOGETHER` says; each pass's and its raw hidden states.

    `kept` gets the raw entries of windows that close. Hidden states that are not `wanted` are not computed to the end.
    """
    rounds = [[own[k] for own in pieces if k < len(own)] for k in range(max(map(len, pieces)))]
    begun, most = 0, TOGETHER.get(engine.network.device.type, TOGETHER["cpu"])
    while begun < len(rounds):
        stop, size = begun, 0
        while stop < len(rounds) and (stop == begun or size + sum(p.size for p in rounds[stop]) <= most):
            size += sum(p.size for p in rounds[stop])
            stop += 1
        step(begun, len(rounds), "intervals")
        together = [p for each in rounds[begun:stop] for p in each]
        yield together, Layout(engine, together, stores, kept, wanted).run()
        begun = stop
