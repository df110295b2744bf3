"""Taking entries out of a cache, another choice for each layer and head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .forward import moved
from .kvcache import KVCache


def kept(network: Any, cache: KVCache, chosen: Sequence[Sequence[Tensor]], *, gaps: bool = False) -> KVCache:
    """Only some entries of a cache, another choice for each layer and head, at the positions they move to.

    For methods that evict. What is left of a head stands right before the next token, whose position is the number of
    entries of the first layer; so it does where heads keep different numbers. Memory is freed down to the longest head
    of each layer.

    Parameters
    ----------
    network
        A `transformers` causal language model.
    cache
        Whose layers are equally long.
    chosen
        For each layer, for each KV head, the ranks that stay, ascending; none is fine.
    gaps
        Whether distances stay those of the text, with gaps where entries were; else entries close up.
    """
    longest = [max(len(head) for head in layer) for layer in chosen]
    keys, values, unseen, shifts = [], [], [], []
    for layer, heads in enumerate(chosen):
        width, old = longest[layer], cache.keys[layer]
        index = torch.zeros(len(heads), width, dtype=torch.long, device=old.device)
        hidden = torch.ones(len(heads), width, dtype=torch.bool, device=old.device)
        for head, ranks in enumerate(heads):
            if len(ranks):
                index[head, width - len(ranks) :] = ranks.to(old.device)
                hidden[head, width - len(ranks) :] = False
        at = index[..., None].expand(-1, -1, old.shape[2])
        keys.append(old.gather(1, at).masked_fill(hidden[..., None], 0))
        values.append(cache.values[layer].gather(1, at).masked_fill(hidden[..., None], 0))
        unseen.append(hidden)
        places = torch.arange(longest[0] - width, longest[0], device=old.device)
        shift = torch.full_like(index, longest[0] - len(cache)) if gaps else places - index
        shifts.append(shift.masked_fill(hidden, 0))
    found = KVCache(tuple(keys), tuple(values), tuple(unseen))
    return moved(network, found, shifts)
