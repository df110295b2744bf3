"""Attention masks that are known again, so that a kernel may have them built in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PLAIN = "_harness_plainly_causal"
"""On a mask of `causal_mask`: how often it had been written to when it was made."""


def causal_mask(queries: int, keys: int, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """Additive mask ``[1, 1, queries, keys]``: the last query sees every key, each one before it one key less.

    `harness.models.attention.attend` knows it again, and need not read it where a kernel has such a mask built in.
    Masked places hold the type's lowest finite value.
    """
    import torch

    mask = torch.full((queries, keys), torch.finfo(dtype).min, dtype=dtype, device=device)
    mask = mask.triu_(keys - queries + 1)[None, None]
    setattr(mask, PLAIN, written(mask))
    return mask


def on(value: Any, device: Any) -> Any:
    """A tensor on a device, still `known` if it was; anything else as it is."""
    import torch

    if not isinstance(value, torch.Tensor) or value.device == device:
        return value
    moved = value.to(device)
    if known(value):
        setattr(moved, PLAIN, written(moved))
    return moved


def known(mask: torch.Tensor) -> bool:
    """Whether a tensor is of `causal_mask`, and was not written to since."""
    made = getattr(mask, PLAIN, None)
    return made is not None and made == written(mask)


def written(mask: torch.Tensor) -> int | None:
    """How often a tensor was written to in place; None where torch does not count (`torch.inference_mode`)."""
    return None if mask.is_inference() else int(mask._version)
