"""Forward passes over batches of unequal caches, and keys turned to new positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .kvcache import KVCache, stack
from .tensors import sent


def feed(
    network: Any, rows: Sequence[KVCache], tokens: Sequence[Sequence[int]], **kwargs: Any
) -> tuple[list[KVCache], Tensor]:
    """Let the model read `tokens` after each row's cache, one ordinary causal forward pass.

    Parameters
    ----------
    network
        A `transformers` causal language model.
    rows
        The caches so far, one a sequence; empty ones are fine.
    tokens
        New token ids of each sequence, at least one each; lengths may differ.
    kwargs
        Passed on to the forward pass (an attention probe, for instance).

    Returns
    -------
    list of KVCache
        The extended caches.
    Tensor
        Last hidden states ``[batch, longest, hidden]``, after the final norm, right-aligned.
    """
    device = network.device
    batch = stack(rows)
    new = [len(t) for t in tokens]
    longest = max(new)
    said = np.zeros((2, len(new), longest), dtype=np.int64)  # ids and positions, sent together
    for i, (row, n) in enumerate(zip(tokens, new)):
        said[0, i, longest - n :] = row
        said[1, i, longest - n :] = range(batch.lengths[i], batch.lengths[i] + n)
    ids, positions = sent(torch.from_numpy(said), device)
    hidden = network.model(
        input_ids=ids,
        attention_mask=batch.causal_mask(new, network.dtype, device),
        position_ids=positions,
        past_key_values=batch.cache,
        use_cache=True,
        **kwargs,
    ).last_hidden_state
    return [batch.row(i, n) for i, n in enumerate(new)], hidden


def moved(network: Any, cache: KVCache, shift: Tensor) -> KVCache:
    """The same entries for other positions: each key is turned by `shift` ``[entries]`` places (RoPE).

    A key is stored for its rank in the cache; whoever drops or reorders entries must turn the keys of those
    that get another rank.
    """
    turn = turning(network, shift)
    if len({(k.shape, k.device) for k in cache.keys}) == 1:  # all layers in a few kernels, not in hundreds
        return KVCache(tuple(turn(torch.stack(cache.keys)).unbind()), cache.values)
    return KVCache(tuple(turn(k) for k in cache.keys), cache.values)


def turning(network: Any, shift: Tensor) -> Callable[[Tensor], Tensor]:
    """What turns keys ``[..., entries, head_dim]`` by `shift` ``[entries]`` places (RoPE).

    Computed in float32 whatever the cache's type. Assumes half-split RoPE, which all supported families have; the
    attention scaling some variants fold in is not applied a second time.
    """
    rotary = network.model.rotary_emb
    shift = shift.to(network.device)
    like = torch.empty(0, dtype=torch.float32, device=network.device)
    scale = getattr(rotary, "attention_scaling", 1.0)
    cos, sin = (part[0] / scale for part in rotary(like, shift[None]))

    def turn(keys: Tensor) -> Tensor:
        x = keys.float()
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        result: Tensor = x * cos + turned * sin
        return result.to(keys.dtype)

    return turn
