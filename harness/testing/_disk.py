"""The check of what a method keeps on disk: it may save work there, and must decide nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from ._results import Failed
from ._trial import Trial

LIBRARIES = ("/dev/", "/proc/", "__pycache__", "torchinductor", ".triton", "matplotlib")
"""In paths of what Python and the libraries write for themselves."""


def disk(trial: Trial) -> str:
    """What a method keeps on disk decides no answer, and lies in the cache folder."""
    first = trial.first
    cache = trial.folder / "cache"
    strange = [path for path in trial.written if not _allowed(path, trial.folder)]
    if strange:
        raise Failed(
            f"while it answered it wrote {strange[0]}; what is worth keeping belongs into the cache folder "
            "($HARNESS_CACHE), and nothing of samples belongs on the disk"
        )
    kept = sum(path.is_file() for path in cache.rglob("*")) if cache.is_dir() else 0
    if not kept:
        return "nothing is kept"
    shutil.rmtree(cache)
    again = trial.alone(trial.prompts[0])
    if again.tokens != first[0].tokens:
        raise Failed(
            "the same prompt gets another answer once the cache folder is empty; what is kept there may save work, and "
            "must not change answers: compute it the same way each time, or make it an adapter"
        )
    return f"{kept} files in the cache folder; without them the same answer"


def _allowed(path: str, folder: Path) -> bool:
    return Path(path).is_relative_to(folder.resolve()) or any(part in path for part in LIBRARIES)
