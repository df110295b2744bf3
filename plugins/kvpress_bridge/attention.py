"""Attention that lets a press mask keys, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ATTENTION = "harness_kvpress"
"""Name under which `attend` is known to transformers."""


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, dropout: float = 0.0, **kwargs: Any
) -> tuple[Any, None]:
    """Attention of one unpadded sequence to caches whose layers differ in length, entries kvpress hides hidden.

    kvpress itself hides an entry by a made-up key that no query attends to, and fails where there is none (long
    questions, few channels a head). A mask for each head gives the same attention, always.

    Parameters
    ----------
    module
        The layer's attention module; ``masked_key_indices`` are the hidden entries: their places in the batch, KV
        heads and ranks.
    query
        ``[1, heads, queries, head_dim]``, the newest positions.
    key, value
        ``[1, kv_heads, keys, head_dim]``, as many keys as this layer holds.
    attention_mask
        Not used: it is as wide as the first layer.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from harness.models.attention import report

    report(module, key, None)
    new, held, mask = query.shape[2], key.shape[2], None
    if 1 < new < held:
        mask = torch.ones(new, held, dtype=torch.bool, device=query.device).tril(held - new)[None, None]
    if (hidden := getattr(module, "masked_key_indices", None)) is not None:
        seen = torch.ones(key.shape[1], 1, held, dtype=torch.bool, device=query.device)
        seen[hidden[1].to(seen.device), 0, hidden[2].to(seen.device)] = False
        seen = seen.repeat_interleave(query.shape[1] // key.shape[1], dim=0)[None]
        mask = seen if mask is None else seen & mask
    found: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, mask, dropout, **kwargs)
    return found


def register() -> None:
    """Make our attention known to transformers; a second call does nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def attention(network: Any, name: str) -> Iterator[None]:
    """Let the model attend by another of transformers' functions; afterwards by its own again."""
    own = network.config._attn_implementation
    network.config._attn_implementation = name
    try:
        yield
    finally:
        network.config._attn_implementation = own


@contextmanager
def untouched(network: Any) -> Iterator[None]:
    """Take from every module of the model what the block hung on it: hooks, attributes, methods, submodules."""
    before = [
        (module, dict(vars(module)), {k: dict(v) for k, v in vars(module).items() if isinstance(v, dict)})
        for module in network.modules()
    ]
    try:
        yield
    finally:
        for module, attributes, tables in before:
            vars(module).clear()
            vars(module).update(attributes)
            for name, table in tables.items():  # the very tables: hooks that others hung there refer to them
                attributes[name].clear()
                attributes[name].update(table)
