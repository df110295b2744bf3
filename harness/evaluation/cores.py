"""Cores for each of several processes of one run: together they take those there are, whoever else says nothing.

Threads of torch wait for each other in busy loops: two processes with a thread for every core each take many times as
long together as one alone.
"""

from __future__ import annotations

import os

CHOSEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Whoever sets one of these has chosen the number of threads."""


def threads_for(workers: int) -> int:
    """Threads of one of so many processes on this machine: an equal share of the cores they may use, 1 at least."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


def share(workers: int, device: str) -> None:
    """Let torch use this process's share from now on, where a CPU computes and nobody has chosen the threads."""
    if device != "cpu" or any(os.environ.get(name) for name in CHOSEN):
        return
    import torch

    wanted = threads_for(workers)
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)
