"""The KV cache of single sequences, and batches of them.

A sequence's cache is kept unpadded, on its own, and is never changed in place: reading more makes a new
one that shares nothing it could damage. A batch is stacked for one forward pass (padded on the left,
padding masked) and taken apart again, so sequences of different length batch together and one compressed
context can serve many questions. Keys are stored as transformers stores them: after RoPE, each entry
rotated for its rank 0, 1, 2 … in the cache, which is why ordinary `generate` continues from any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import likelihood

if TYPE_CHECKING:
    from .contracts.outputs import Decoding
    from .models.model import LanguageModel


@dataclass(frozen=True)
class KVCache:
    """One sequence's cache.

    Attributes
    ----------
    keys, values
        For each layer a tensor ``[kv_heads, entries, head_dim]``, oldest entry first.
    """

    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return self.keys[0].shape[1] if self.keys else 0

    def slice(self, start: int, stop: int) -> KVCache:
        """Entries ``start:stop``; keys keep the rotation they have."""
        return KVCache(
            tuple(k[:, start:stop] for k in self.keys), tuple(v[:, start:stop] for v in self.values)
        )

    def append(self, other: KVCache) -> KVCache:
        """The entries of `other` after those of this cache."""
        if not self.keys:
            return other
        return KVCache(
            tuple(torch.cat(pair, dim=1) for pair in zip(self.keys, other.keys)),
            tuple(torch.cat(pair, dim=1) for pair in zip(self.values, other.values)),
        )


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
    """

    cache: Any
    lengths: list[int]
    width: int

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
        lowest = torch.finfo(dtype).min
        causal = torch.full((longest, self.width + longest), lowest, dtype=dtype, device=device)
        causal = causal.triu_(self.width + 1)[None, None]
        if not padded:
            return causal
        valid = self.padding_mask(new, device).bool()[:, None, None]
        return causal.masked_fill(~valid, lowest)

    def row(self, index: int, new: int) -> KVCache:
        """Row `index` after a forward pass that added `new` valid entries to it (its last ones)."""
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
    from transformers import DynamicCache

    lengths = [len(row) for row in rows]
    width = max(lengths)
    cache = DynamicCache()
    for layer in range(len(rows[lengths.index(width)].keys) if width else 0):
        like = rows[lengths.index(width)].keys[layer]
        pair = []
        for side in ("keys", "values"):
            padded = []
            for row, n in zip(rows, lengths):
                pad = like.new_zeros(like.shape[0], width - n, like.shape[2])
                entries = getattr(row, side)[layer] if n else pad
                padded.append(torch.cat((pad, entries), dim=1) if 0 < n < width else entries)
            pair.append(padded[0][None] if len(padded) == 1 else torch.stack(padded))
        cache.update(pair[0], pair[1], layer)
    return Batch(cache, lengths, width)


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
    ids = torch.zeros(len(new), longest, dtype=torch.long)
    positions = torch.zeros(len(new), longest, dtype=torch.long)
    for i, (row, n) in enumerate(zip(tokens, new)):
        ids[i, longest - n :] = torch.from_numpy(np.asarray(row, dtype=np.int64))
        positions[i, longest - n :] = torch.arange(batch.lengths[i], batch.lengths[i] + n)
    hidden = network.model(
        input_ids=ids.to(device),
        attention_mask=batch.causal_mask(new, network.dtype, device),
        position_ids=positions.to(device),
        past_key_values=batch.cache,
        use_cache=True,
        **kwargs,
    ).last_hidden_state
    return [batch.row(i, n) for i, n in enumerate(new)], hidden


def moved(network: Any, cache: KVCache, shift: Tensor) -> KVCache:
    """The same entries for other positions: each key is turned by `shift` ``[entries]`` places (RoPE).

    A key is stored for its rank in the cache; whoever drops or reorders entries must turn the keys of those
    that get another rank. Computed in float32 whatever the cache's type. Assumes half-split RoPE, which all
    supported families have; the attention scaling some variants fold in is not applied a second time.
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

    return KVCache(tuple(turn(k) for k in cache.keys), cache.values)


def end_token_ids(model: LanguageModel, decoding: Decoding) -> list[int]:
    """Every token that ends an answer, each once."""
    return list(dict.fromkeys((*model.end_ids, *decoding.stop_ids)))


@torch.no_grad()
def decode(
    model: LanguageModel,
    rows: Sequence[KVCache],
    last_tokens: Sequence[int],
    decoding: Decoding,
    *,
    produced: int = 0,
    at_most: int | None = None,
) -> tuple[list[KVCache], list[list[int]]]:
    """Continue greedily from each cache with `transformers`' own `generate`.

    While `harness.likelihood` scores given continuations, these are read instead, and nothing is generated.

    Parameters
    ----------
    rows
        Caches holding everything before `last_tokens`.
    last_tokens
        For each row the one token not yet read.
    produced
        New tokens these rows have already (they count against the limits of `decoding`).
    at_most
        Stop after so many tokens although the answer may go on; None: only the limits of `decoding` count.

    Returns
    -------
    list of KVCache
        The caches after reading the last token and every new token but the newest.
    list of list of int
        New tokens of each row, up to and including its first end token.
    """
    from transformers import GenerationConfig

    if (scoring := likelihood.current()) is not None:
        return scoring.decode(model, rows, last_tokens, decoding, produced, at_most)
    ends = end_token_ids(model, decoding)
    limit = decoding.max_new_tokens - produced
    if at_most is not None:
        limit = min(limit, at_most)
    batch = stack(rows)
    device = model.network.device
    mask = batch.padding_mask([1] * len(rows), device)
    # What is left open here is filled from the model's own generation config, which `models` empties.
    config = GenerationConfig(
        max_new_tokens=limit,
        min_new_tokens=min(limit, max(0, decoding.min_new_tokens - produced)),
        use_cache=True,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        eos_token_id=ends or None,
        pad_token_id=model.pad_id,
        bos_token_id=None,
    )
    # Left-padding the ids to the cache's width makes them as long as the mask, which every transformers
    # 5 release reads as "the whole sequence so far": it then feeds only what the cache does not hold.
    ids = torch.full((len(rows), batch.width + 1), model.pad_id, dtype=torch.long, device=device)
    ids[:, -1] = torch.as_tensor(list(last_tokens), dtype=torch.long, device=device)
    out = model.network.generate(
        input_ids=ids, attention_mask=mask, past_key_values=batch.cache, generation_config=config
    )
    fresh = out[:, batch.width + 1 :].tolist()
    answers = []
    for tokens in fresh:
        stop = next((i for i, t in enumerate(tokens) if t in ends), len(tokens) - 1)
        answers.append(tokens[: stop + 1])
    steps = len(fresh[0])
    return [
        batch.row(i, steps).slice(0, n + len(a)) for i, (n, a) in enumerate(zip(batch.lengths, answers))
    ], answers


def stop_reason(model: LanguageModel, decoding: Decoding, tokens: Sequence[int]) -> str:
    """Why an answer ended: ``"eos"``, ``"stop"`` or ``"length"``."""
    if tokens and tokens[-1] in model.end_ids:
        return "eos"
    return "stop" if tokens and tokens[-1] in decoding.stop_ids else "length"
