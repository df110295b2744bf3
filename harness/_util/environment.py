"""Where a number came from: versions, commit, hardware, prompt protocol."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__

if TYPE_CHECKING:
    pass

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
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def commit() -> str | None:
    """The checkout's commit, with ``+changes`` if files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
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
