"""Memory of a device or of this process: the most that was taken, and what is free."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def reset_peaks(devices: Sequence[str]) -> bool:
    """`reset_peak` of several devices; False if one of them does not allow it."""
    begun = [reset_peak(device) for device in devices]  # of each, whatever the others say
    return all(begun)


def peaks(devices: Sequence[str]) -> int | None:
    """`peak`, the sum of several devices; None if it is not known of one."""
    found = [peak(device) for device in devices]
    return None if None in found else sum(size for size in found if size is not None)


def wait(devices: Sequence[str]) -> None:
    """Until GPUs have done what they were asked."""
    for device in devices:
        if device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(device)


def free(device: str) -> int | None:
    """Bytes of a device's memory, or of the machine's, that can be had now; None if that is not known here."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def reset_peak(device: str) -> bool:
    """Start a new peak-memory measurement; False if this system does not allow it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:  # Linux: "5" resets the resident-set high-water mark of this process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak(device: str) -> int | None:
    """Peak memory in bytes since `reset_peak`: allocated on the GPU, or resident of this process."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
