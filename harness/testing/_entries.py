"""What stands in the cache as an answer goes on, and where two caches begin to differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

APART = 1e-4
"""Numbers of a cache that differ by no more were computed from the same tokens."""


@contextmanager
def entries(network: Any) -> Iterator[list[tuple[int, list[Tensor]]]]:
    """Length and content of the cache before each forward pass of a single token.

    Content is keys and values of each layer by turns, ``[rows, kv_heads, entries, head_dim]``; nothing of a cache that
    packs its entries.
    """
    kept: list[tuple[int, list[Tensor]]] = []

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        cache = kwargs.get("past_key_values")
        if cache is not None and tokens is not None and tokens.shape[1] == 1:
            sides = [t for layer in cache.layers for t in (layer.keys, layer.values) if t is not None]
            kept.append((int(cache.get_seq_length()), [t.clone() for t in sides if t.ndim == 4]))

    hook = network.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield kept
    finally:
        hook.remove()


def begun_from(kept: Sequence[tuple[int, list[Tensor]]], size: int) -> list[Tensor]:
    """Content of the cache of `size` entries that an answer began from; empty if it was not seen."""
    return next((layers for length, layers in kept if length == size), [])


def first_change(one: Sequence[Tensor], other: Sequence[Tensor]) -> int | None:
    """The first entry in which two caches differ, in any layer; None if they do not."""
    found = []
    for a, b in zip(one, other):
        size = min(a.shape[-2], b.shape[-2])
        apart = (a[..., :size, :].float() - b[..., :size, :].float()).abs().amax((0, 1, 3)) > APART
        if apart.any():
            found.append(int(apart.float().argmax()))
        elif a.shape != b.shape:
            found.append(size)
    return min(found, default=None)
