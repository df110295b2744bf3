"""The KV cache of single sequences, and batches of them.

A sequence's cache is kept unpadded, on its own, and is never changed in place: reading more makes a new
one that shares nothing it could damage. A batch is stacked for one forward pass (padded on the left,
padding masked) and taken apart again, so sequences of different length batch together and one compressed
context can serve many questions. Keys are stored as transformers stores them: after RoPE, each entry
rotated for its rank 0, 1, 2 … in the cache, which is why ordinary `generate` continues from any of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models import attention
from .uneven import Shapes


@dataclass(frozen=True)
class KVCache:
    """One sequence's cache.

    Attributes
    ----------
    keys, values
        For each layer a tensor ``[kv_heads, entries, head_dim]``, oldest entry first. Layers may differ in length
        (`harness.inference.kept` makes such caches); the next token stands at the first layer's.
    unseen
        For each layer ``[kv_heads, entries]``: entries that are held and never attended to, because heads differ or
        because what was evicted is only hidden. Empty: there are none.
    """

    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()
    unseen: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return self.keys[0].shape[1] if self.keys else 0

    @property
    def even(self) -> bool:
        """Whether all layers are equally long and everything held is attended to."""
        return not self.unseen and len({k.shape[1] for k in self.keys}) <= 1

    @property
    def entries(self) -> int:
        """KV entries held, the mean over layers, rounded: what `Generation.kv_tokens` says of an uneven cache."""
        return round(sum(k.shape[1] for k in self.keys) / len(self.keys)) if self.keys else 0

    def hidden(self, layer: int) -> Tensor:
        """``[kv_heads, entries]``: what is held in a layer and not attended to."""
        if self.unseen:
            return self.unseen[layer]
        return torch.zeros(self.keys[layer].shape[:2], dtype=torch.bool, device=self.keys[layer].device)

    def without_last(self, entries: int) -> KVCache:
        """All but so many of the newest entries of each layer."""
        parts = (
            tuple(x[:, : x.shape[1] - entries] for x in side)
            for side in (self.keys, self.values, self.unseen)
        )
        return KVCache(*parts)

    def slice(self, start: int, stop: int) -> KVCache:
        """Entries ``start:stop``; keys keep the rotation they have. Raises ValueError if layers differ in length."""
        if not self.even:
            raise ValueError("layers or heads of this cache differ: a slice of it means nothing")
        return KVCache(
            tuple(k[:, start:stop] for k in self.keys), tuple(v[:, start:stop] for v in self.values)
        )

    def heads(self, start: int, stop: int) -> KVCache:
        """All entries of the heads ``start:stop``."""
        return KVCache(tuple(k[start:stop] for k in self.keys), tuple(v[start:stop] for v in self.values))

    def append(self, other: KVCache) -> KVCache:
        """The entries of `other` after those of this cache."""
        if not self.keys:
            return other
        unseen: tuple[Tensor, ...] = ()
        if self.unseen or other.unseen:
            pairs = ((self.hidden(i), other.hidden(i)) for i in range(len(self.keys)))
            unseen = tuple(torch.cat(pair, dim=1) for pair in pairs)
        return KVCache(
            tuple(torch.cat(pair, dim=1) for pair in zip(self.keys, other.keys)),
            tuple(torch.cat(pair, dim=1) for pair in zip(self.values, other.values)),
            unseen,
        )


@dataclass(frozen=True)
class OwnCache(KVCache):
    """One sequence's cache in a form of transformers' own (quantised, for instance), read as any other.

    Rows of this kind are taken one by one, whatever they are batched with.

    Attributes
    ----------
    cache
        A `transformers.Cache` of one row. It is never changed: a pass extends a copy, whose layers get new tensors.
    """

    cache: Any = None

    def __len__(self) -> int:
        return 0 if self.cache is None else int(self.cache.get_seq_length())

    @property
    def even(self) -> bool:
        """True: what the layers hold is the cache's affair."""
        return True

    @property
    def entries(self) -> int:
        """KV entries held."""
        return len(self)

    def copied(self) -> Any:
        """A cache that may be extended while this one stays."""
        made = copy.copy(self.cache)
        made.layers = [copy.copy(layer) for layer in self.cache.layers]
        return made

    def without_last(self, entries: int) -> KVCache:
        """The same; raises ValueError if anything is to be dropped, which such a cache cannot."""
        if entries:
            raise ValueError("entries of a cache of transformers' own kind cannot be dropped")
        return self


@dataclass
class Batch:
    """Caches stacked for a forward pass: what `transformers` takes, and how to get the rows back.

    Attributes
    ----------
    cache
        A `DynamicCache` of tensors ``[batch, kv_heads, width, head_dim]``; a forward pass extends it.
    lengths
        Valid entries of each row; they are its last ones.
    width
        Entries of the padded rows.
    shapes
        What each layer holds where layers or heads differ (`lengths` and `width` are then the first layer's).
    own
        Whether it is the cache of one `OwnCache`.
    """

    cache: Any
    lengths: list[int]
    width: int
    shapes: Shapes | None = None
    own: bool = False

    def padding_mask(self, new: Sequence[int], device: torch.device | str) -> Tensor:
        """2-D mask ``[batch, width + max(new)]`` (1 = valid) for `new` left-padded tokens a row."""
        longest = max(new)
        mask = torch.zeros(len(new), self.width + longest, dtype=torch.long, device=device)
        for row, (old, fresh) in enumerate(zip(self.lengths, new)):
            mask[row, self.width - old : self.width] = 1
            mask[row, self.width + longest - fresh :] = 1
        return mask

    def causal_mask(
        self, new: Sequence[int], dtype: torch.dtype, device: torch.device | str
    ) -> Tensor | None:
        """Additive mask ``[batch | 1, 1, max(new), width + max(new)]`` for reading `new` tokens a row.

        None where `transformers` needs none (nothing cached, nothing padded): attention is then at its
        fastest. An additive mask was measured about 13 % faster on a CPU than the boolean one
        `transformers` would make. Masked places hold the type's lowest finite value, so that the rows of
        padding, which see nothing, stay finite.
        """
        longest = max(new)
        padded = any(n != self.width for n in self.lengths) or any(n != longest for n in new)
        if not padded and (self.width == 0 or longest == 1):
            return None
        causal = attention.causal_mask(longest, self.width + longest, dtype, device)
        if not padded:
            return causal
        valid = self.padding_mask(new, device).bool()[:, None, None]
        return causal.masked_fill(~valid, torch.finfo(dtype).min)

    def row(self, index: int, new: int) -> KVCache:
        """Row `index` after a forward pass that added `new` valid entries to it (its last ones)."""
        if self.own:
            return OwnCache(cache=self.cache)
        if self.shapes is not None:
            return _row_uneven(self, index, new)
        layers = self.cache.layers
        old, total = self.lengths[index], layers[0].keys.shape[2]
        added = total - self.width

        def take(tensor: Tensor) -> Tensor:
            row = tensor[index]
            if old == self.width and new == added:
                return row
            return torch.cat((row[:, self.width - old : self.width], row[:, total - new :]), dim=1)

        return KVCache(tuple(take(x.keys) for x in layers), tuple(take(x.values) for x in layers))


def stack(rows: Sequence[KVCache]) -> Batch:
    """Stack caches into one batch, zero-padded on the left."""
    if any(isinstance(row, OwnCache) for row in rows):
        [row] = rows  # `feed` and `decode` take them one by one
        return Batch(row.copied(), [len(row)], len(row), own=True)  # type: ignore[attr-defined]
    if not all(row.even for row in rows):
        return _stack_uneven(rows)
    lengths = [len(row) for row in rows]
    width = max(lengths)
    layers = []
    for layer in range(len(rows[lengths.index(width)].keys) if width else 0):
        like = rows[lengths.index(width)].keys[layer]
        pair = []
        for side in ("keys", "values"):
            padded = []
            for row, n in zip(rows, lengths):
                if n == width:
                    padded.append(getattr(row, side)[layer])
                    continue
                pad = like.new_zeros(like.shape[0], width - n, like.shape[2])
                padded.append(torch.cat((pad, getattr(row, side)[layer]), dim=1) if n else pad)
            pair.append(padded[0][None] if len(padded) == 1 else torch.stack(padded))
        layers.append((pair[0], pair[1]))
    return Batch(_dynamic(layers), lengths, width)


def stacked(layers: Sequence[tuple[Tensor, Tensor]], rows: int) -> Batch:
    """Caches stacked already, all of one length: keys and values ``[rows, kv_heads, width, head_dim]``, or no layer."""
    width = layers[0][0].shape[2] if layers else 0
    return Batch(_dynamic(layers), [width] * rows, width)


def _dynamic(layers: Sequence[tuple[Tensor, Tensor]]) -> Any:
    """A `DynamicCache` of these keys and values.

    Set, where `update` would copy: a pass that extends a layer makes new tensors and leaves these alone.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache()
    for keys, values in layers:
        held = DynamicLayer()
        held.keys, held.values, held.is_initialized = keys, values, True
        held.dtype, held.device = keys.dtype, keys.device
        cache.layers.append(held)
    return cache


def _stack_uneven(rows: Sequence[KVCache]) -> Batch:
    """`harness.inference.stack` for caches of which one is uneven: each layer padded to its own longest row."""
    like = next(row for row in rows if row.keys)
    layers, counts, seen = [], [], []
    for layer, sample in enumerate(like.keys):
        held = [row.keys[layer].shape[1] if row.keys else 0 for row in rows]
        width = max(held)
        sides = []
        for side in ("keys", "values"):
            parts = []
            for row, n in zip(rows, held):
                pad = sample.new_zeros(sample.shape[0], width - n, sample.shape[2])
                parts.append(torch.cat((pad, getattr(row, side)[layer]), dim=1) if n else pad)
            sides.append(torch.stack(parts))
        visible = torch.zeros(len(rows), sample.shape[0], width, dtype=torch.bool, device=sample.device)
        for i, (row, n) in enumerate(zip(rows, held)):
            if n:
                visible[i, :, width - n :] = ~row.hidden(layer)
        layers.append((sides[0], sides[1]))
        counts.append(held)
        seen.append(visible)
    return Batch(_dynamic(layers), counts[0], max(counts[0]), Shapes(counts, seen))


def _row_uneven(batch: Batch, index: int, new: int) -> KVCache:
    """`Batch.row` of an uneven batch."""
    shapes: Any = batch.shapes
    keys, values, unseen = [], [], []
    for layer, held, seen in zip(batch.cache.layers, shapes.counts, shapes.seen):
        width, total, n = seen.shape[2], layer.keys.shape[2], held[index]
        pair = [
            torch.cat((side[index][:, width - n : width], side[index][:, total - new :]), dim=1)
            for side in (layer.keys, layer.values)
        ]
        keys.append(pair[0])
        values.append(pair[1])
        old = ~seen[index][:, width - n :]
        unseen.append(torch.cat((old, old.new_zeros(old.shape[0], new)), dim=1))
    return KVCache(tuple(keys), tuple(values), tuple(unseen))
