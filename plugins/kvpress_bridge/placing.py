"""Parts of a context, and what a press left of one at the places that it has in the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.contracts import Head

if TYPE_CHECKING:
    from harness.inference import KVCache


def shortened(context: Sequence[int], tokens: int) -> Sequence[int]:
    """The beginning of a context, still knowing its parts if it did."""
    if not isinstance(context, Head):
        return context[:tokens]
    return Head(context[:tokens], min(tokens, context.context_start), context.prefix, context.context)


def placed(network: Any, past: Any, tokens: int | None) -> KVCache:
    """A pressed cache whose next rank stands for position `tokens` of the text (None: for that rank itself).

    Kept keys have the rotation of their place in the text, and the question goes on at its own, behind gaps.
    Rotary positions are relative: all keys turned back alike, by the entries missing in the first layer, give
    the same attention from consecutive ranks.
    """
    import torch

    from harness.inference import KVCache, moved

    rows = [(layer.keys[0], layer.values[0]) for layer in past.layers]
    shift = 0 if tokens is None else rows[0][0].shape[1] - tokens
    if shift:
        rows = [
            (moved(network, KVCache((k,), (v,)), torch.full((k.shape[1],), shift)).keys[0], v)
            for k, v in rows
        ]
    return KVCache(tuple(k for k, _ in rows), tuple(v for _, v in rows))
