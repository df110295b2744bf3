"""Where a number came from: versions, commit, hardware, prompt protocol."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from .._version import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "rank_bm25", "rouge", "fuzzywuzzy")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware, JSON-ready."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "harness": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def processor() -> str | None:
    """What the processor calls itself: some numbers are computed differently on different kinds."""
    import torch

    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.12
    return str(known.get("cpu_name") or platform.processor()) or None


@cache
def commit() -> str | None:
    """The checkout's commit, with ``+changes`` if files differ from it; None outside a checkout.

    As it was when this process first asked: later it goes on with the code it has read.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "HEAD")
    return (
        None if head is None else head + ("+changes" if _git(root, "status", "--porcelain", "-uno") else "")
    )


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
