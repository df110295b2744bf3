"""Caches whose layers, or heads, hold different numbers of entries: pyramids, budgets for each head.

Transformers makes one attention mask for all layers, as wide as the first. Where layers differ, each gets a mask of its
own here. The heads of a layer share a tensor: shorter ones are filled up on the left with entries that nobody attends
to, which take memory as any other, and are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import attention


@dataclass
class Shapes:
    """What the layers of a stacked batch hold.

    Attributes
    ----------
    counts
        For each layer the entries of each row.
    seen
        For each layer ``[rows, kv_heads, width]``: entries that are attended to.
    """

    counts: list[list[int]]
    seen: list[Tensor]
    fresh: Tensor | None = None

    def reading(self, new: Sequence[int]) -> Shapes:
        """The same, about to read so many left-padded tokens a row."""
        longest, device = max(new), self.seen[0].device
        fresh = torch.zeros(len(new), longest, dtype=torch.bool, device=device)
        for row, n in enumerate(new):
            fresh[row, longest - n :] = True
        return Shapes(self.counts, self.seen, fresh)

    def masks(self, layer: int, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """What each query of a layer sees ``[rows, heads, queries, keys]``; what rows hold ``[rows, 1, 1, keys]``."""
        seen, queries, keys = self.seen[layer], query.shape[2], key.shape[2]
        rows, groups, width = seen.shape
        added = torch.ones(rows, keys - width, dtype=torch.bool, device=seen.device)
        if self.fresh is not None:
            added[:, : self.fresh.shape[1]] = self.fresh.to(seen.device)
        causal = torch.ones(queries, keys, dtype=torch.bool, device=seen.device).tril(keys - queries)
        own = causal & ~torch.ones_like(causal).tril(
            keys - queries - 1
        )  # padding sees itself, and stays finite
        whole = torch.cat((seen, added[:, None].expand(-1, groups, -1)), dim=2)[:, :, None]
        mask = ((whole & causal) | own).repeat_interleave(query.shape[1] // groups, dim=1)
        first = torch.tensor([width - n for n in self.counts[layer]], device=seen.device)
        held = torch.arange(width, device=seen.device) >= first[:, None]
        return mask, torch.cat((held, added), dim=1)[:, None, None]

    def entries(self, length: int) -> list[list[int]]:
        """For each row the entries of each layer once the first layer is so long, padding excluded."""
        added = length - self.seen[0].shape[2]
        rows = range(len(self.counts[0]))
        extra = [added] * len(rows)
        if self.fresh is not None and added:
            longest = self.fresh.shape[1]
            extra = [added - longest + int(n) for n in self.fresh.sum(-1).tolist()]
        return [[layer[row] + extra[row] for layer in self.counts] for row in rows]


@contextmanager
def shaped(shapes: Shapes | None) -> Iterator[None]:
    """Within the block the model attends by these shapes; None: as ever."""
    if shapes is None:
        yield
        return
    with attention.shaped_by(shapes):
        yield
