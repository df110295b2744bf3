"""Attention in bfloat16 as products of blocks of queries, for processors whose kernel is slower than its products.

torch's attention kernel multiplies bfloat16 by MKL, which on a processor with AVX512-BF16 and no AMX takes five times
as long as oneDNN does. Here the products are oneDNN's; sums and softmax are in float32, as in the kernel. One thread of
an AMD EPYC, 9 heads of 64 that share 3 keys, 256 queries, 768 keys: 1.7 ns a query, key and head for the kernel's 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product

import torch
from torch import Tensor

from .precision import processor_has

SCORES = 1 << 20
"""Scores of a block at most: 4 MiB in float32; more leave a core's caches, fewer are too few rows for a product."""
ROWS = 8
"""Queries of a block, at least: fewer are no faster."""
STEP = 64
"""Keys are filled up to a multiple: oneDNN compiles a kernel for each size it meets, and keeps a thousand of them."""


@cache
def faster_here() -> bool:
    """Whether this processor is one of those; decided by what it is, so that a run's numbers do not hang on timings."""
    without_amx = processor_has("avx512_bf16") and not processor_has("amx_tile")
    return without_amx and hasattr(torch.backends.mkldnn, "matmul")


def suits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether attention of these is to be computed here: bfloat16 on such a processor, and nothing that is learned."""
    learned = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.numel() > 0
        and not learned
        and faster_here()
    )


def by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """Attention under a mask; shapes as for `harness.models.attention.scaled`.

    None stands for `harness.models.attention.causal_mask`: keys behind a block are not multiplied. A query that sees
    nothing gets the mean of all values.
    """
    batch, heads, queries, width = query.shape
    shared, keys = key.shape[1:3]
    rows, grouped = batch * shared, heads // shared
    filled = _filled(keys)
    size = _block(queries, grouped * filled)
    # All heads at once where they are few scores, as those of a single token.
    together = rows if rows * grouped * queries * filled <= SCORES else 1
    found = query.new_empty(rows, grouped, queries, value.shape[3])
    asked = (query.float() * scaling).reshape(rows, grouped, queries, width)
    key, value = (_widened(t.reshape(rows, keys, -1), filled) for t in (key, value))
    room = torch.empty(together * grouped * size * filled)
    after = torch.full((size, size + STEP), -torch.inf).triu_(1) if mask is None else _additive(mask, filled)
    with _by_onednn():
        for first, begin in product(range(0, rows, together), range(0, queries, size)):
            here, part = slice(first, first + together), slice(begin, end := min(begin + size, queries))
            number, before = end - begin, keys - queries + begin
            seen = filled if mask is not None else _filled(before + number)
            scores = room[: together * grouped * number * seen].view(together, grouped * number, seen)
            own = asked[here, :, part].reshape(together, grouped * number, width)
            torch.bmm(own, key[here, :seen].transpose(1, 2), out=scores)
            if mask is None:
                each = scores.view(together, grouped, number, seen)[..., before:]
                each += after[:number, : seen - before]
            elif together == 1:
                scores.view(grouped, number, seen).add_(after[first // shared % len(after), :, part])
            else:
                scores.view(batch, heads, number, seen).add_(after[:, :, part])
            torch.softmax(scores, -1, out=scores)
            summed = torch.bmm(scores, value[here, :seen])
            found[here, :, part] = summed.view(together, grouped, number, -1)
    return found.view(batch, heads, queries, -1)


def _filled(keys: int) -> int:
    """So many keys with those they are filled up by."""
    return -(-keys // STEP) * STEP


def _widened(entries: Tensor, filled: int) -> Tensor:
    """Keys or values ``[rows, keys, width]`` in float32, with zeros behind them."""
    found = torch.zeros(len(entries), filled, entries.shape[2])
    found[:, : entries.shape[1]] = entries
    return found


def _additive(mask: Tensor, filled: int) -> Tensor:
    """In float32, whether it was additive or says what is seen; nothing is seen of what is filled up."""
    found = torch.full((*mask.shape[:3], filled), -torch.inf)
    if not mask.is_floating_point():
        mask = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
    found[..., : mask.shape[3]] = mask
    return found


def _block(queries: int, row: int) -> int:
    """Queries of a block, where one has so many scores: equal blocks, as few as `SCORES` allows."""
    count = -(-queries // max(ROWS, SCORES // row))
    return -(-queries // count)


@contextmanager
def _by_onednn() -> Iterator[None]:
    """Within the block products of float32 are oneDNN's.

    torch takes it only where it may round to bfloat16. Without AMX it rounds nothing; with it, queries that were scaled
    and weights would be rounded once, as the kernel does with weights.
    """
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before
