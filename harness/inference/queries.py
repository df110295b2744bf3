"""What the last tokens of a pass attend to, for methods that keep what those find relevant."""

from __future__ import annotations

import torch
from torch import Tensor


class LastQueries:
    """A probe for `feed`: the attention of the last `queries` tokens, layer by layer.

    ``feed(network, [cache], [tokens], attention_probe=(probe := LastQueries(32)))``, then ``probe.weights``. Queries
    and keys come with the model's own norms and rotary embedding; nothing is hooked. Rows of a batch have to be
    equally long: padding is not looked at.

    Attributes
    ----------
    queries
        How many tokens, counted from the end; of a shorter pass all.
    weights
        For each layer ``[batch, kv_heads, queries, keys]``: softmax over the keys each query may see, the mean of the
        query heads that share a KV head. In float32, each on its layer's device.
    """

    def __init__(self, queries: int) -> None:
        if queries < 1:
            raise ValueError(f"queries must be at least 1, not {queries}")
        self.queries = queries
        self.weights: list[Tensor] = []

    def __call__(self, layer: int, query: Tensor, key: Tensor, scaling: float) -> None:
        """Note one layer; called by the model's attention, in the order of the layers."""
        if layer == 0:
            self.weights = []
        n, heads, keys = query.shape[2], key.shape[1], key.shape[2]
        shared = query.float().reshape(query.shape[0], heads, -1, n, query.shape[3])
        scores = shared @ key.float()[:, :, None].transpose(-1, -2)
        later = torch.ones(n, keys, dtype=torch.bool, device=key.device).triu(keys - n + 1)
        self.weights.append((scores * scaling).masked_fill(later, float("-inf")).softmax(-1).mean(2))
