"""One forward pass over many intervals: each layer attends to them one after another, all else takes them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harness.inference import KVCache
from harness.inference.forward import turning
from harness.inference.tensors import sent
from harness.models import attention
from harness.models.placement import on

from .form import Start
from .pieces import Kept, Piece, Store
from .projections import BeaconWeights
from .ratios import RAW
from .reading import Reading


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


class Layout:
    """One pass over `pieces`: the beacons that close them, ratio by ratio, then their raw tokens in order.

    An attention pattern of `harness.models.attention`. Unless hidden states are `wanted`, the last layer has nothing to
    do but to leave entries: nothing attends in it, and raw tokens that leave none do not get there. So they need not
    attend in the layer before it either, where they only are attended to.
    """

    def __init__(
        self,
        engine: Engine,
        pieces: Sequence[Piece],
        stores: Sequence[Store],
        kept: Sequence[Kept] | None,
        wanted: bool,
    ) -> None:
        self.engine, self.pieces, self.stores, self.kept = engine, pieces, stores, kept
        closing = sorted((p for p in pieces if p.beacons), key=lambda p: p.ratio or RAW)
        self.first: dict[int, int] = {}
        at = 0
        for piece in closing:
            self.first[id(piece)] = at
            at += piece.beacons
        self.beacons, self.closing = at, closing
        self.total = at + sum(len(p.ids) for p in pieces)
        # `shallow` passes end early.
        self.last = None if wanted else engine.network.config.num_hidden_layers - 1
        self._moved: dict[tuple[int, torch.device], Tensor] = {}
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
        places = [p.base + own for p, own in zip(self.closing, ends)]
        places += [np.arange(p.begin, p.end) for p in self.pieces if p.known is None]
        ids: list[int] = []
        for p in self.closing if back else ():
            ids += p.seen[-self.engine.interval :][(p.ratio or 1) - 1 :: p.ratio or 1]
        ids += [t for p in self.pieces for t in p.ids]
        shift = np.concatenate(
            [np.arange(p.beacons) - own for p, own in zip(self.closing, ends)]
            or [np.zeros(0, dtype=np.int64)]
        )
        said = np.zeros((3, self.total), dtype=np.int64)
        said[0, : len(ids)], said[1], said[2, : self.beacons] = ids, np.concatenate(places), shift
        given, positions, turns = sent(torch.from_numpy(said), device)
        self.turn = turning(self.engine.network, turns[: self.beacons])
        parts = self._parts()
        with self.engine.weights.beside(body, parts), self._narrowed(body):
            hidden: Tensor = body(
                inputs_embeds=self._inputs(body, given[: len(ids)], parts),
                # Not read: it only tells transformers that the mask is made.
                attention_mask=torch.zeros(1, 1, 1, 1, dtype=self.engine.network.dtype, device=device),
                position_ids=positions[None],
                use_cache=False,
                attention_pattern=self,
            ).last_hidden_state
        return hidden[0, self.beacons :]

    @contextmanager
    def _narrowed(self, body: Any) -> Iterator[None]:
        """While it lasts, only positions that leave entries leave the last layer but one: beacons and what stays raw.

        Beacons stand in front, so they are where they were.
        """
        if self.last is None:
            yield
            return
        left = [np.arange(self.beacons)]
        at = self.beacons
        for piece in self.pieces:
            left.append(np.arange(at, at + (self._staying(piece) if piece.known is None else 0)))
            at += len(piece.ids)
        rows = sent(torch.from_numpy(np.concatenate(left)), self.engine.network.device)

        def narrow(_: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            hidden, *others = args
            own = self._on(rows, hidden.device)
            hidden = hidden if hidden.shape[1] == len(own) else hidden[:, own]
            given = {
                **given,
                "position_embeddings": tuple(part[:, own] for part in given["position_embeddings"]),
                "position_ids": given["position_ids"][:, own],
            }
            return (hidden, *others), given

        with ExitStack() as changed:
            changed.callback(
                body.layers[self.last].register_forward_pre_hook(narrow, with_kwargs=True).remove
            )
            if self.last and "forward" not in vars(before := body.layers[self.last - 1]):
                before.forward = partial(_narrowing, before, partial(self._on, rows))
                changed.callback(delattr, before, "forward")
            yield

    def _staying(self, piece: Piece) -> int:
        """How many of a piece's first raw entries are of use once it is read: as memory, or to be kept."""
        if piece.beacons == 0 or self.kept is not None:
            return piece.end - piece.begin
        return min(max(0, piece.base - piece.begin), piece.end - piece.begin)  # sinks

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
        found = []
        for ratio, part in parts:
            learned = self.engine.weights.embedding(ratio)
            if self.engine.start == "end":
                fed = learned.expand(part.stop - part.start, -1)
            else:
                fed = embedded[part] + learned.to(torch.promote_types(embedded.dtype, learned.dtype))
            found.append(fed.to(self.engine.network.dtype))
        if raw := self.total - self.beacons:
            found.append(embedded[-raw:])
        return torch.cat(found)[None]

    def _masks(self, piece: Piece) -> tuple[Tensor | None, Tensor | None]:
        """What a piece's raw tokens see, and what its beacons see; one pass makes them once for all layers."""
        network, raw = self.engine.network, None
        if piece.known is None:
            raw = attention.causal_mask(len(piece.ids), piece.end, network.dtype, network.device)
        return raw, self.engine.sight(piece.ratio or 1, piece.base) if piece.beacons else None

    def __call__(self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend to one piece after another; every one that closes leaves its beacons to the next."""
        index, number = int(module.layer_idx), self.beacons
        both = torch.stack((key[0], value[0]))
        turned = self.turn(key[0, :, : self.beacons]) if self.closing else key[0, :, :0]
        for row, before in self.before.items():
            if before:
                attention.report(module, self.stores[row].layer(index, key)[:1, :, :before], None)
        if index == self.last:
            self._leave(index, both, turned)
            return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])
        found = query.new_empty(1, self.total, query.shape[1], value.shape[3])
        for piece, made in zip(self.pieces, self.masks):
            raw, sight = (None if mask is None else self._on(mask, key.device) for mask in made)
            held = self._put(piece, index, both, number, piece.end - piece.begin)
            stop = number + len(piece.ids)
            if raw is not None:
                if self.last is None or index < self.last - 1 or self._staying(piece):
                    seen = held[:, None, :, : piece.end]
                    found[0, number:stop] = attention.scaled(
                        query[:, :, number:stop], seen[0], seen[1], raw, scaling
                    )[0].transpose(0, 1)
                else:  # what is left of them is their entries
                    found[0, number:stop] = 0
                number = stop
            if sight is None:
                continue
            first = self.first[id(piece)]
            last, end = first + piece.beacons, piece.end + piece.beacons
            held[:, :, piece.end : end] = both[:, :, first:last]
            seen = held[:, None, :, :end]
            found[0, first:last] = attention.scaled(
                query[:, :, first:last], seen[0], seen[1], sight, scaling
            )[0].transpose(0, 1)
            self._condensed(piece, held, both, turned)
        return found

    def _on(self, made: Tensor, device: torch.device) -> Tensor:
        """What was made for all layers on the device of one of them; moved once a pass."""
        if made.device == device:
            return made
        at = (id(made), device)
        if at not in self._moved:
            self._moved[at] = on(made, device)
        return self._moved[at]

    def _condensed(self, piece: Piece, held: Tensor, both: Tensor, turned: Tensor) -> None:
        """A piece's beacons in their places among the entries `held`."""
        own = slice(first := self.first[id(piece)], first + piece.beacons)
        place = slice(piece.base, piece.base + piece.beacons)
        held[0, :, place], held[1, :, place] = turned[:, own], both[1, :, own]

    def _put(self, piece: Piece, index: int, both: Tensor, number: int, count: int) -> Tensor:
        """The entries of a piece's row, with the piece's first `count` raw ones in their places.

        They begin at `number` of `both`, unless they are known. Whoever keeps those of windows that close gets them.
        """
        held = self.stores[piece.row].layer(index, both)
        if count:
            own = both[:, :, number : number + count] if piece.known is None else piece.known.layer(index)
            held[:, :, piece.begin : piece.begin + count] = own
            if self.kept is not None and piece.ratio is not None and piece.known is None:
                self.kept[piece.row].add(index, own)
        return held

    def _leave(self, index: int, both: Tensor, turned: Tensor) -> None:
        """What `__call__` does but for attending, which nobody would see the result of; `both` is narrowed."""
        number = self.beacons
        for piece in self.pieces:
            count = self._staying(piece)
            held = self._put(piece, index, both, number, count)
            number += count if piece.known is None else 0
            if piece.beacons:
                self._condensed(piece, held, both, turned)


def _narrowing(layer: Any, rows: Callable[[torch.device], Tensor], hidden: Tensor, **given: Any) -> Tensor:
    """A decoder layer's forward of which only some positions come out; all of them are attended to.

    Source: the decoder layer that transformers has for every supported family.
    """
    attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **given)
    hidden = (hidden + attended)[:, rows(hidden.device)]
    found: Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return found
