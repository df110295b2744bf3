"""Devices as users name them."""

from __future__ import annotations

from ..errors import UsageError
from .reading import reason


def checked(device: str, flag: str = "--device") -> str:
    """The device to use, checked; ``"auto"`` resolved. Raises UsageError, beginning with `flag`, if there is none."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind, index = torch.device(device).type, torch.device(device).index
    except RuntimeError as error:
        raise UsageError(f"{flag} {device}: not a device; for example cpu, cuda, cuda:1") from error
    if kind == "meta":
        raise UsageError(
            f"{flag} meta: it computes nothing, so there is nothing to measure; take cpu or cuda"
        )
    if kind == "cuda" and (index or 0) >= torch.cuda.device_count():
        raise UsageError(f"{flag} {device}: this machine has {torch.cuda.device_count()} CUDA devices")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"{flag} {device}: not available here: {reason(error)}") from error
    return device
