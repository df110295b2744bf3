"""Forward passes over batches of unequal caches, and keys turned to new positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .kvcache import KVCache, OwnCache, stack
from .tensors import sent
from .uneven import shaped


def feed(
    network: Any, rows: Sequence[KVCache], tokens: Sequence[Sequence[int] | Tensor], **kwargs: Any
) -> tuple[list[KVCache], Tensor]:
    """Let the model read `tokens` after each row's cache, one ordinary causal forward pass.

    A row may be embeddings ``[new, hidden]`` in place of token ids (memory tokens): each is a position and leaves an
    entry like any other, and is counted as one.

    Parameters
    ----------
    network
        A `transformers` causal language model.
    rows
        The caches so far, one a sequence; empty ones are fine.
    tokens
        New token ids of each sequence, or embeddings, at least one each; lengths may differ.
    kwargs
        Passed on to the forward pass (an attention probe, for instance).

    Returns
    -------
    list of KVCache
        The extended caches.
    Tensor
        Last hidden states ``[batch, longest, hidden]``, after the final norm, right-aligned.

    Raises
    ------
    ValueError
        If no sequence has a token to read.
    """
    if not any(len(row) for row in tokens):
        raise ValueError(
            f"feed was given no token to read for any of {len(tokens)} sequences; leave the pass out where a text or a "
            "question has nothing left but the token the answer begins from, or look for what was cut off too much"
        )
    if len(rows) > 1 and any(isinstance(row, OwnCache) for row in rows):
        return _one_by_one(network, rows, tokens, **kwargs)
    device = network.device
    batch = stack(rows)
    new = [len(t) for t in tokens]
    longest = max(new)
    said = np.zeros((2, len(new), longest), dtype=np.int64)  # ids and positions, sent together
    given = [row if isinstance(row, Tensor) and row.is_floating_point() else None for row in tokens]
    for i, (row, n) in enumerate(zip(tokens, new)):
        if given[i] is None:
            said[0, i, longest - n :] = row
        said[1, i, longest - n :] = range(batch.lengths[i], batch.lengths[i] + n)
    ids, positions = sent(torch.from_numpy(said), device)
    read: dict[str, Tensor] = {"input_ids": ids}
    if any(row is not None for row in given):
        read = {"inputs_embeds": _embedded(network, ids, given)}
    with shaped(None if batch.shapes is None else batch.shapes.reading(new)):
        hidden = network.model(
            **read,
            attention_mask=batch.causal_mask(new, network.dtype, device),
            position_ids=positions,
            past_key_values=batch.cache,
            use_cache=True,
            **kwargs,
        ).last_hidden_state
    return [batch.row(i, n) for i, n in enumerate(new)], hidden


def _one_by_one(
    network: Any, rows: Sequence[KVCache], tokens: Sequence[Sequence[int] | Tensor], **kwargs: Any
) -> tuple[list[KVCache], Tensor]:
    """`feed` for rows of which one cannot be stacked."""
    found = [feed(network, [row], [ids], **kwargs) for row, ids in zip(rows, tokens)]
    longest = max(hidden.shape[1] for _, hidden in found)
    padded = [torch.nn.functional.pad(hidden, (0, 0, longest - hidden.shape[1], 0)) for _, hidden in found]
    return [cache for [cache], _ in found], torch.cat(padded)


def _embedded(network: Any, ids: Tensor, given: Sequence[Tensor | None]) -> Tensor:
    """``[batch, longest, hidden]``: the embeddings of ids, and those that were given in place of some."""
    found = network.get_input_embeddings()(ids)
    rows = [
        row if own is None else torch.cat((row[: len(row) - len(own)], own.to(row)))
        for row, own in zip(found, given)
    ]
    return torch.stack(rows)


@contextmanager
def shallow(network: Any, layers: int | None) -> Iterator[None]:
    """Within the block only the model's first `layers` run; None: all of them.

    For looking at what the first layers attend to; what comes out behind them means nothing.
    """
    config = network.config  # every supported family runs as many layers as it says
    whole = config.num_hidden_layers
    config.num_hidden_layers = whole if layers is None else min(layers, whole)
    try:
        yield
    finally:
        config.num_hidden_layers = whole


def moved(network: Any, cache: KVCache, shift: Tensor | Sequence[Tensor]) -> KVCache:
    """The same entries for other positions: each key is turned by `shift` ``[entries]`` places (RoPE).

    Where layers or heads differ, `shift` has for each layer its own, ``[entries]`` or ``[kv_heads, entries]``. A key is
    stored for its rank in the cache; whoever drops or reorders entries must turn the keys of those that get another
    rank (`harness.inference.kept` does both).
    """
    if not isinstance(shift, Tensor):
        keys = tuple(turning(network, by)(k) for k, by in zip(cache.keys, shift))
        return KVCache(keys, cache.values, cache.unseen)
    turn = turning(network, shift)
    if len({k.shape for k in cache.keys}) == 1:  # all layers of a device in a few kernels, not in hundreds
        runs = [list(run) for _, run in groupby(cache.keys, key=lambda k: k.device)]
        keys = tuple(k for run in runs for k in turn(torch.stack(run)).unbind())
        return KVCache(keys, cache.values, cache.unseen)
    return KVCache(tuple(turn(k) for k in cache.keys), cache.values, cache.unseen)


def turning(network: Any, shift: Tensor) -> Callable[[Tensor], Tensor]:
    """What turns keys ``[..., entries, head_dim]`` by `shift` ``[entries]`` or ``[kv_heads, entries]`` places (RoPE).

    Computed in float32 whatever the cache's type. Assumes half-split RoPE, which all supported families have; the
    attention scaling some variants fold in is not applied a second time.
    """
    rotary = network.model.rotary_emb
    by = shift.to(network.device)
    like = torch.empty(0, dtype=torch.float32, device=network.device)
    scale = getattr(rotary, "attention_scaling", 1.0)
    made = [(part[0] / scale).reshape(*by.shape, part.shape[-1]) for part in rotary(like, by.reshape(1, -1))]
    at = {made[0].device: made}  # layers may lie on several devices

    def turn(keys: Tensor) -> Tensor:
        if keys.device not in at:
            at[keys.device] = [part.to(keys.device) for part in made]
        x, (cos, sin) = keys.float(), at[keys.device]
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        result: Tensor = x * cos + turned * sin
        return result.to(keys.dtype)

    return turn
