"""What memories cost beside the model's own reading of the uncompressed text: distillation (ours).

Sequences are read in one batch. Their windows are condensed by the same ratios, so that all that are still being read
hold caches of one length, and nothing here is done row by row: on a GPU, launching costs more than computing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.inference.kvcache import stacked
from harness.inference.tensors import sent

from .engine import ActivationBeacon
from .losses import IGNORED
from .ratios import RAW

Layers = list[tuple[Tensor, Tensor]]
"""For each layer keys and values ``[rows, kv_heads, entries, head_dim]``."""


@dataclass(frozen=True)
class Lessons:
    """Sequences as the model itself reads them, raw: what memories of them are held against.

    Attributes
    ----------
    ids
        Token ids of each, up to the last that predicts something; those of most windows first.
    predicting
        For each the places behind its first window that predict something.
    first
        Tokens until the first window is full; what comes after is compared.
    raw
        Entries of the first windows.
    hidden
        Last hidden states ``[rows, tokens, hidden]``; shorter rows are padded on the right.
    attended
        For each layer the attention block's output at the same tokens.
    """

    ids: list[list[int]]
    predicting: list[list[int]]
    first: int
    raw: Layers
    hidden: Tensor
    attended: list[Tensor]


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
    kept = []
    for ids, labels in rows:
        places = [i - 1 for i, label in enumerate(labels) if label != IGNORED and i > first]
        if places:
            kept.append((list(ids[: places[-1] + 1]), places))
    if not kept:
        return None
    kept.sort(key=lambda row: -((len(row[0]) - 1 - first) // engine.interval))
    tokens = [ids for ids, _ in kept]
    with attention_outputs(engine.network) as attended:
        layers, hidden = _read(engine.network, [], tokens)
    raw = [(k[:, :, :first], v[:, :, :first]) for k, v in layers]
    return Lessons(tokens, [places for _, places in kept], first, raw, hidden, attended)


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
        ones' squares, the mean over layers, on every token that is read with a gradient. Of several sequences
        the mean.
    """
    memory = _condensed(
        engine, [], told.raw, [ids[: told.first] for ids in told.ids], engine.sinks, ratios[0]
    )
    going, start, windows = len(told.ids), told.first, 1
    divergences: list[Tensor] = []
    distances: list[tuple[list[int], Tensor]] = []
    while going:
        chunks = [ids[start : start + engine.interval] for ids in told.ids[:going]]
        ends = [start + len(c) == len(ids) for c, ids in zip(chunks, told.ids)]
        places = [
            [p - start for p in told.predicting[i] if 0 <= p - start < len(c)] for i, c in enumerate(chunks)
        ]
        learning = [i for i, (end, found) in enumerate(zip(ends, places)) if end or found]
        memory = [(k[:going], v[:going]) for k, v in memory]
        with (
            torch.set_grad_enabled(bool(learning) and torch.is_grad_enabled()),
            attention_outputs(engine.network) as seen,
        ):
            layers, hidden = _read(engine.network, memory, chunks)
        if learning:
            divergences.append(_divergence(engine.network, hidden, told, start, places))
            distances.append((learning, _distances(seen, told, start, learning, chunks)))
        going = ends.index(True) if True in ends else going
        if going:
            raw = [(k[:going].detach(), v[:going].detach()) for k, v in layers]
            memory = [(k[:going], v[:going]) for k, v in memory]
            memory = _condensed(engine, memory, raw, chunks[:going], memory[0][0].shape[2], ratios[windows])
        start, windows = start + engine.interval, windows + 1
    return torch.stack(divergences).sum(), _mean_by_row(distances, len(told.ids))


def _read(network: Any, before: Layers, tokens: Sequence[Sequence[int]]) -> tuple[Layers, Tensor]:
    """One causal pass over tokens padded on the right: all entries, and the last hidden states."""
    longest = max(map(len, tokens))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in tokens])
    batch = stacked(before, len(tokens))
    found = network.model(
        input_ids=sent(ids, network.device),
        attention_mask=batch.causal_mask([longest] * len(tokens), network.dtype, network.device),
        position_ids=sent(torch.arange(batch.width, batch.width + longest)[None], network.device),
        past_key_values=batch.cache,
        use_cache=True,
    )
    return [(layer.keys, layer.values) for layer in batch.cache.layers], found.last_hidden_state


def _condensed(
    engine: ActivationBeacon,
    memory: Layers,
    read: Layers,
    tokens: Sequence[Sequence[int]],
    kept: int,
    ratio: int,
) -> Layers:
    """The memory after a window: what was there (of a first window its sinks), and the window's beacons.

    `read` holds memory and window; gradients pass into the memory by `memory`, and by nothing else.
    """
    old = memory or [(k[:, :, :kept], v[:, :, :kept]) for k, v in read]
    if ratio == RAW:
        fresh = [(k[:, :, kept:], v[:, :, kept:]) for k, v in read]
    else:
        rows = len(tokens)
        made = engine.beacons(stacked(read, rows), [kept] * rows, tokens, ratio)
        fresh = [
            (k.view(rows, -1, *k.shape[1:]), v.view(rows, -1, *v.shape[1:]))
            for k, v in zip(made.keys, made.values)
        ]
    return [
        (torch.cat((k, new_k), dim=2), torch.cat((v, new_v), dim=2))
        for (k, v), (new_k, new_v) in zip(old, fresh)
    ]


@contextmanager
def attention_outputs(network: Any) -> Iterator[list[Tensor]]:
    """The output ``[batch, tokens, hidden]`` of every attention block during a forward pass, layer by layer."""
    found: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in network.model.layers:
            hook = layer.self_attn.register_forward_hook(lambda _, args, out: found.append(out[0]))
            hooks.callback(hook.remove)
        yield found


def _divergence(
    network: Any, hidden: Tensor, told: Lessons, start: int, places: Sequence[Sequence[int]]
) -> Tensor:
    """KL of the tokens of a chunk that predict something, summed with their weights in the mean over everything."""
    found = [(row, place) for row, own in enumerate(places) for place in own]
    if not found:
        return hidden.new_zeros((), dtype=torch.float32)
    shares = [1 / (len(told.predicting[row]) * len(told.ids)) for row, _ in found]
    rows, columns = sent(torch.tensor(found).T, hidden.device)
    ours = network.lm_head(hidden[rows, columns]).float().log_softmax(-1)
    with torch.no_grad():
        theirs = network.lm_head(told.hidden[rows, columns + start]).float().log_softmax(-1)
    apart = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)
    weighted: Tensor = apart * sent(torch.tensor(shares), hidden.device)
    return weighted.sum()


def _distances(
    seen: Sequence[Tensor],
    told: Lessons,
    start: int,
    learning: Sequence[int],
    chunks: Sequence[Sequence[int]],
) -> Tensor:
    """For each learning row of a chunk the relative squared distance of attention outputs, the mean over layers."""
    width, device = seen[0].shape[1], seen[0].device
    rows = sent(torch.tensor(learning), device)
    lengths = sent(torch.tensor([[len(chunks[row])] for row in learning]), device)
    counted = (torch.arange(width, device=device) < lengths)[..., None]
    found = []
    for ours, theirs in zip(seen, told.attended):
        aim = theirs[rows, start : start + width].float() * counted
        apart = (ours[rows].float() - aim) * counted
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
