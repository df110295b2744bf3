"""What memories cost beside the model's own reading of the uncompressed text: distillation (ours)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.inference.tensors import sent

from .engine import ActivationBeacon
from .losses import IGNORED
from .reading import Reading


@dataclass(frozen=True)
class Lessons:
    """Sequences as the model itself reads them, raw: what memories of them are held against.

    Attributes
    ----------
    ids
        Token ids of each, up to the last that predicts something.
    predicting
        For each the places behind its first window that predict something.
    first
        Tokens until the first window is full; what comes after is compared.
    caches
        Raw entries of the first windows.
    hidden
        Last hidden states ``[rows, tokens after first, hidden]``, right-aligned.
    attended
        For each layer the attention block's output at the same tokens.
    """

    ids: list[list[int]]
    predicting: list[list[int]]
    first: int
    caches: list[KVCache]
    hidden: Tensor
    attended: list[Tensor]

    def column(self, row: int, token: int) -> int:
        """Where a token of a row stands in `hidden` and `attended`."""
        return self.hidden.shape[1] - len(self.ids[row]) + token


@torch.no_grad()
def lessons(engine: ActivationBeacon, rows: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Lessons | None:
    """Read sequences as they are, in one pass.

    Parameters
    ----------
    rows
        Token ids and unshifted labels (-100: ignored) of each. One of which nothing is predicted behind its
        first window is left out; None if that leaves none.
    """
    first = engine.end_of(1)
    ids, predicting = [], []
    for input_ids, labels in rows:
        places = [i - 1 for i, label in enumerate(labels) if label != IGNORED and i > first]
        if places:
            ids.append(list(input_ids[: places[-1] + 1]))
            predicting.append(places)
    if not ids:
        return None
    with attention_outputs(engine.network) as attended:
        caches, hidden = feed(engine.network, [KVCache()] * len(ids), ids)
    return Lessons(
        ids,
        predicting,
        first,
        [c.slice(0, first) for c in caches],
        hidden[:, first:],
        [a[:, first:] for a in attended],
    )


def distillation_loss(
    engine: ActivationBeacon, told: Lessons, ratios: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """How far the model is from itself once its past is condensed.

    Every full window is condensed; the tokens after the first are read after the memory. The memory is
    detached where later windows are read into it, so a window's beacons learn from the tokens of the open
    window at the end, and from those of other windows that predict something.

    Parameters
    ----------
    told
        The sequences and what the model made of them uncompressed.
    ratios
        Those of the full windows, in order, the same for every sequence.

    Returns
    -------
    tuple of Tensor
        KL(uncompressed || condensed) of the next-token distribution, the mean over predicted tokens behind the
        first window, in nats; and the squared distance of the attention outputs relative to the uncompressed
        ones' squares, the mean over layers, on every token read with a gradient. Of several sequences the mean.
    """
    network = engine.network
    states = engine.condense(
        [Reading(c, 0, told.first, tokens=tuple(i[: told.first])) for c, i in zip(told.caches, told.ids)],
        ratios[0],
    )
    rows, start = list(range(len(told.ids))), told.first
    divergences: list[Tensor] = []
    distances: list[tuple[list[int], Tensor]] = []
    while rows:
        room = engine.room(states[0])
        chunks = [told.ids[row][start : start + room] for row in rows]
        stops = [start + len(chunk) for chunk in chunks]
        ends = [stop == len(told.ids[row]) for row, stop in zip(rows, stops)]
        places = [[p for p in told.predicting[row] if start <= p < stop] for row, stop in zip(rows, stops)]
        learns = [bool(end or found) for end, found in zip(ends, places)]
        before = [s.cache if keep else _detached(s.cache) for s, keep in zip(states, learns)]
        with (
            torch.set_grad_enabled(any(learns) and torch.is_grad_enabled()),
            attention_outputs(network) as seen,
        ):
            caches, hidden = feed(network, before, chunks)
        if any(learns):
            part = _Part(told, rows, start, stops, learns, hidden.shape[1])
            divergences.append(_divergence(network, hidden, part, places))
            distances.append((part.learning, _distances(seen, part)))
        going = [i for i, end in enumerate(ends) if not end]
        if going:
            states = _condensed(engine, [states[i] for i in going], [caches[i] for i in going],
                                [chunks[i] for i in going], ratios)  # fmt: skip
        rows, start = [rows[i] for i in going], start + room
    return torch.stack(divergences).sum(), _mean_by_row(distances, len(told.ids))


def _condensed(
    engine: ActivationBeacon,
    states: Sequence[Reading],
    caches: Sequence[KVCache],
    chunks: Sequence[Sequence[int]],
    ratios: Sequence[int],
) -> list[Reading]:
    """Close the windows that have just been read, into memories that keep their gradients of before."""
    full = [
        replace(s, cache=_detached(c), raw=len(chunk), tokens=tuple(chunk))
        for s, c, chunk in zip(states, caches, chunks)
    ]
    closed = engine.condense(full, ratios[len(states[0].ratios)])
    return [
        replace(c, cache=s.cache.slice(0, s.memory).append(c.cache.slice(s.memory, c.memory)))
        for s, c in zip(states, closed)
    ]


class _Part:
    """Where the tokens of one chunk stand, in what was just read and in what the model made of them raw.

    Parameters
    ----------
    told, rows
        The lessons, and which of them are being read.
    start, stops
        First token of the chunk, and the one after its last for each row.
    learns
        Rows that are read with a gradient.
    width
        Columns of what was read, right-aligned.
    """

    def __init__(
        self,
        told: Lessons,
        rows: Sequence[int],
        start: int,
        stops: Sequence[int],
        learns: Sequence[bool],
        width: int,
    ) -> None:
        self.told, self.rows, self.stops, self.width = told, rows, stops, width
        self.places = [i for i, learning in enumerate(learns) if learning]
        self.learning = [rows[i] for i in self.places]
        device = told.hidden.device
        # Padding points at the row's first token, and counts nothing.
        columns = [[max(0, stops[i] - start - width + t) for t in range(width)] for i in self.places]
        offsets = [[told.column(rows[i], start)] for i in self.places]
        self.aims = sent(torch.tensor(columns) + torch.tensor(offsets), device)
        self.aim_rows = sent(torch.tensor(self.learning)[:, None], device)
        self.own_rows = sent(torch.tensor(self.places), device)
        valid = [[t >= width - (stops[i] - start) for t in range(width)] for i in self.places]
        self.valid = sent(torch.tensor(valid)[..., None], device)

    def predicting(self, places: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Indices ``[2, tokens]`` into what was read and into the lessons, and each token's weight in the mean."""
        told, found, aims, weights = self.told, [], [], []
        for i, (row, stop) in enumerate(zip(self.rows, self.stops)):
            share = 1 / (len(told.predicting[row]) * len(told.ids))
            for place in places[i]:
                found.append((i, self.width - stop + place))
                aims.append((row, told.column(row, place)))
                weights.append(share)
        device = told.hidden.device
        both = sent(torch.tensor([found, aims]).mT, device)
        return both[0], both[1], sent(torch.tensor(weights), device)


@contextmanager
def attention_outputs(network: Any) -> Iterator[list[Tensor]]:
    """The output ``[batch, tokens, hidden]`` of every attention block during a forward pass, layer by layer."""
    found: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in network.model.layers:
            hook = layer.self_attn.register_forward_hook(lambda _, args, out: found.append(out[0]))
            hooks.callback(hook.remove)
        yield found


def _divergence(network: Any, hidden: Tensor, part: _Part, places: Sequence[Sequence[int]]) -> Tensor:
    """KL of the tokens that predict something, summed with their weights in the mean over everything."""
    if not any(places):
        return hidden.new_zeros((), dtype=torch.float32)
    (row, column), (aim_row, aim), weights = part.predicting(places)
    ours = network.lm_head(hidden[row, column]).float().log_softmax(-1)
    with torch.no_grad():
        theirs = network.lm_head(part.told.hidden[aim_row, aim]).float().log_softmax(-1)
    return (F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1) * weights).sum()


def _distances(seen: Sequence[Tensor], part: _Part) -> Tensor:
    """For each learning row the relative squared distance of attention outputs, the mean over layers."""
    found = []
    for ours, theirs in zip(seen, part.told.attended):
        aim = theirs[part.aim_rows, part.aims].float() * part.valid
        apart = ours[part.own_rows].float() * part.valid - aim
        found.append(apart.square().sum((1, 2)) / aim.square().sum((1, 2)))
    return torch.stack(found).mean(0)


def _mean_by_row(parts: Sequence[tuple[list[int], Tensor]], rows: int) -> Tensor:
    """The mean over rows of each row's mean over the parts it is in."""
    counts = [sum(row in members for members, _ in parts) for row in range(rows)]
    shares = [
        (values * sent(torch.tensor([1 / (counts[row] * rows) for row in members]), values.device)).sum()
        for members, values in parts
    ]
    return torch.stack(shares).sum()


def _detached(cache: KVCache) -> KVCache:
    return KVCache(tuple(k.detach() for k in cache.keys), tuple(v.detach() for v in cache.values))
