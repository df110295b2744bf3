"""Whether the value of an entry is that of its key's token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ._results import Failed

if TYPE_CHECKING:
    from torch import Tensor

CLOSE = 1e-3
"""Values are the same if they differ by no more than this share of their length, or eight rounding errors."""


def own_values(
    cached: Tensor,
    passes: Mapping[int, Sequence[Tensor]],
    layer: int,
    head: int,
    alike: Mapping[int, Sequence[int]],
) -> None:
    """Raise Failed if an entry holds the value of another token, head or layer than its key, or one that was turned.

    What is none of these (values merged into one, say) is the method's own.

    Parameters
    ----------
    cached
        The layer's values ``[kv_heads, entries, head_dim]`` where the answer begins.
    passes
        For each layer the values that were computed, ``[tokens, kv_heads, head_dim]`` each pass.
    alike
        For entries of the head whose keys are known, by their rank, the tokens (of all passes) whose key it may be.
    """
    import torch

    if not alike:
        return
    computed = {index: torch.cat(list(rows)) for index, rows in passes.items()}
    close = max(CLOSE, 8 * torch.finfo(cached.dtype).eps)
    for index, tokens in alike.items():
        value = cached[head, index].float()
        most = close * float(value.norm())
        own = computed[layer][list(tokens), head]
        if not most or value.shape != own.shape[1:] or _near(own, value, most):
            continue
        where = f"in layer {layer} an entry has the key of one token and "
        if _near(computed[layer][:, head], value, most):
            raise Failed(f"{where}the value of another; choose keys and values by the same index")
        if any(_near(all_.flatten(0, 1), value, most) for all_ in computed.values()):
            raise Failed(f"{where}a value of another head or layer; keep them side by side")
        if _near(_lengths(own), _lengths(value), most):
            raise Failed(f"in layer {layer} a value was turned like a key; turn keys only")


def _near(rows: Tensor, value: Tensor, most: float) -> bool:
    return bool(((rows - value).norm(dim=-1) <= most).any())


def _lengths(values: Tensor) -> Tensor:
    """Lengths of the pairs of numbers that rotation turns, ``[…, head_dim / 2]``."""
    half = values.shape[-1] // 2
    return (values[..., :half] ** 2 + values[..., half:] ** 2).sqrt()
