"""Many intervals in one forward pass: each layer attends to them one after another, all else takes them at once.

What an interval's raw tokens see of the intervals before are their beacons in the same layer. Those are known as soon
as that layer has attended to them, so nothing has to wait for a whole pass: projections, norms and feed-forward take
all tokens and beacons of many intervals in one product each, where a pass an interval would call them for a few hundred
rows, and for a few dozen beacons again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harness.contracts.phases import step
from harness.inference import KVCache
from harness.inference.forward import turning
from harness.inference.tensors import sent
from harness.models import attention

from .form import Start
from .pieces import Kept, Piece, Store
from .projections import BeaconWeights
from .ratios import RAW, entries
from .reading import ChooseRatio, Reading

TOGETHER = {"cpu": 1024, "cuda": 8192}
"""Raw tokens of a pass by kind of device; whole intervals, and one of each row at least.

On a processor more gains nothing and leaves its caches; a GPU waits for the launches of each pass.
"""


class Engine(Protocol):
    """What a pass has to know of `ActivationBeacon`, where all of it is explained."""

    network: Any
    weights: BeaconWeights
    interval: int
    start: Start
    sinks: int

    def room(self, state: Reading) -> int:
        """Raw tokens until the open window is full."""
        ...

    def extended(self, state: Reading, cache: KVCache, read: Sequence[int]) -> Reading:
        """The state after more raw tokens of the open window."""
        ...

    def closed(self, state: Reading, cache: KVCache, before: int, ratio: int) -> Reading:
        """The state once its window has closed onto `before` entries of memory."""
        ...

    def sight(self, ratio: int, before: int) -> Tensor:
        """What beacons see of memory, interval and each other."""
        ...


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
    for together, hidden in passes(engine, pieces, stores, kept):
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
) -> Iterator[tuple[list[Piece], Tensor]]:
    """Read the pieces of all rows, as many in a pass as `TOGETHER` says; each pass's and its raw hidden states.

    `kept` gets the raw entries of windows that close.
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
        yield together, Layout(engine, together, stores, kept).run()
        begun = stop


class Layout:
    """One pass over `pieces`: their raw tokens in order, then the beacons that close them, ratio by ratio.

    An attention pattern of `harness.models.attention`.
    """

    def __init__(
        self,
        engine: Engine,
        pieces: Sequence[Piece],
        stores: Sequence[Store],
        kept: Sequence[Kept] | None = None,
    ) -> None:
        self.engine, self.pieces, self.stores, self.kept = engine, pieces, stores, kept
        self.raw = sum(len(p.ids) for p in pieces)
        closing = sorted((p for p in pieces if p.beacons), key=lambda p: p.ratio or RAW)
        self.first: dict[int, int] = {}
        at = self.raw
        for piece in closing:
            self.first[id(piece)] = at
            at += piece.beacons
        self.total, self.closing = at, closing
        self.masks = [self._masks(piece) for piece in pieces]
        self.before: dict[int, int] = {}
        for p in pieces:  # what this pass does not compute: memory, and entries that are known
            self.before[p.row] = (
                max(self.before.get(p.row, 0), p.end) if p.known else self.before.get(p.row, p.begin)
            )

    def run(self) -> Tensor:
        """Do it; returns last hidden states of the raw tokens ``[tokens, hidden]``."""
        body, device = self.engine.network.model, self.engine.network.device
        if not self.total:
            return self._written()
        back = int(self.engine.start == "last")
        ends = [np.arange(1, p.beacons + 1) * (p.ratio or 1) - back for p in self.closing]
        places = [np.arange(p.begin, p.end) for p in self.pieces if p.known is None]
        places += [p.base + own for p, own in zip(self.closing, ends)]
        ids: list[int] = [t for p in self.pieces for t in p.ids]
        for p in self.closing if back else ():
            ids += p.seen[-self.engine.interval :][(p.ratio or 1) - 1 :: p.ratio or 1]
        shift = np.concatenate(
            [np.arange(p.beacons) - own for p, own in zip(self.closing, ends)]
            or [np.zeros(0, dtype=np.int64)]
        )
        said = np.zeros((3, self.total), dtype=np.int64)
        said[0, : len(ids)], said[1], said[2, self.raw :] = ids, np.concatenate(places), shift
        given, positions, turns = sent(torch.from_numpy(said), device)
        self.turn = turning(self.engine.network, turns[self.raw :])
        parts = self._parts()
        with self.engine.weights.beside(body, parts):
            hidden: Tensor = body(
                inputs_embeds=self._inputs(body, given[: len(ids)], parts),
                # Not read: it only tells transformers that the mask is made.
                attention_mask=torch.zeros(1, 1, 1, 1, dtype=self.engine.network.dtype, device=device),
                position_ids=positions[None],
                use_cache=False,
                attention_pattern=self,
            ).last_hidden_state
        return hidden[0, : self.raw]

    def _written(self) -> Tensor:
        """Where nothing is to be computed: entries that are known, put in their places."""
        network = self.engine.network
        for piece in self.pieces:
            assert piece.known is not None
            for index in range(network.config.num_hidden_layers):
                own = piece.known.layer(index)
                self.stores[piece.row].layer(index, own)[:, :, piece.begin : piece.end] = own
        return torch.empty(0, network.config.hidden_size, dtype=network.dtype, device=network.device)

    def _parts(self) -> list[tuple[int, slice]]:
        """Ratios of this pass, and where their beacons are."""
        found: dict[int, slice] = {}
        for piece in self.closing:
            first, ratio = self.first[id(piece)], piece.ratio or RAW
            found[ratio] = slice(found[ratio].start if ratio in found else first, first + piece.beacons)
        return list(found.items())

    def _inputs(self, body: Any, ids: Tensor, parts: Sequence[tuple[int, slice]]) -> Tensor:
        """Embeddings ``[1, positions, hidden]``."""
        # Nothing is looked up where beacons alone are computed and are fed no tokens.
        embedded: Tensor = body.embed_tokens(ids) if len(ids) else torch.empty(0)
        found = [embedded[: self.raw]] if len(ids) else []
        for ratio, part in parts:
            learned = self.engine.weights.embedding(ratio)
            if self.engine.start == "end":
                fed = learned.expand(part.stop - part.start, -1)
            else:
                fed = embedded[part] + learned.to(torch.promote_types(embedded.dtype, learned.dtype))
            found.append(fed.to(self.engine.network.dtype))
        return torch.cat(found)[None]

    def _masks(self, piece: Piece) -> tuple[Tensor | None, Tensor | None]:
        """What a piece's raw tokens see, and what its beacons see; one pass makes them once for all layers."""
        network, raw = self.engine.network, None
        if piece.known is None:
            raw = attention.causal_mask(len(piece.ids), piece.end, network.dtype, network.device)
        return raw, self.engine.sight(piece.ratio or 1, piece.base) if piece.beacons else None

    def __call__(self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend to one piece after another; every one that closes leaves its beacons to the next."""
        index, number = int(module.layer_idx), 0
        both = torch.stack((key[0], value[0]))
        turned = self.turn(key[0, :, self.raw :]) if self.closing else key[0, :, :0]
        found = query.new_empty(1, self.total, query.shape[1], value.shape[3])
        for row, before in self.before.items():
            if before:
                attention.report(module, self.stores[row].layer(index, key)[:1, :, :before], None)
        for piece, (raw, sight) in zip(self.pieces, self.masks):
            held, stop = self.stores[piece.row].layer(index, key), number + len(piece.ids)
            own = both[:, :, number:stop] if piece.known is None else piece.known.layer(index)
            held[:, :, piece.begin : piece.end] = own
            if raw is not None:
                seen = held[:, None, :, : piece.end]
                found[0, number:stop] = attention.scaled(
                    query[:, :, number:stop], seen[0], seen[1], raw, scaling
                )[0].transpose(0, 1)
                number = stop
                if self.kept is not None and piece.ratio is not None:
                    self.kept[piece.row].add(index, own)
            if sight is None:
                continue
            first = self.first[id(piece)]
            last, end = first + piece.beacons, piece.end + piece.beacons
            held[:, :, piece.end : end] = both[:, :, first:last]
            seen = held[:, None, :, :end]
            found[0, first:last] = attention.scaled(
                query[:, :, first:last], seen[0], seen[1], sight, scaling
            )[0].transpose(0, 1)
            kept = slice(piece.base, piece.base + piece.beacons)
            held[0, :, kept] = turned[:, first - self.raw : last - self.raw]
            held[1, :, kept] = both[1, :, first:last]
        return found
