"""Looking at tensors without waiting for their device, sending to it, and reading many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def lists(tensors: Sequence[Any]) -> list[Any]:
    """Each tensor as lists (None stays), read from the device in one go for all of one shape and kind."""
    import torch

    kinds: dict[tuple[Any, ...], list[int]] = {}
    for place, tensor in enumerate(tensors):
        if tensor is not None:
            kinds.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(place)
    found: list[Any] = [None] * len(tensors)
    for places in kinds.values():
        for place, values in zip(places, torch.stack([tensors[place] for place in places]).tolist()):
            found[place] = values
    return found


def sent(tensor: Any, device: Any) -> Any:
    """A tensor of the CPU on a device, without waiting until that has done what it was asked before."""
    import torch

    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def visible(mask: Any) -> tuple[Any, Any]:
    """Keys that the last position of each row sees, and one more than the last key that any row sees."""
    import torch

    newest = mask[:, :, -1]
    seen = (newest > -1 if newest.dtype.is_floating_point else newest.bool()).any(1)
    places = torch.arange(1, seen.shape[-1] + 1, device=seen.device)
    return seen.sum(-1), (seen.any(0) * places).max()


def version(tensor: Any) -> int:
    """How often a tensor was written to in place; 0 where torch does not count."""
    try:
        return int(tensor._version)
    except (AttributeError, RuntimeError):
        return 0
