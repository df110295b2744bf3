"""What an experiment tracker is asked for, and which there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ..errors import UsageError, unknown_name

PACKAGES = {"wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio", "tensorboard": "tensorboard"}
"""Trackers by name, and the package that each needs."""


class Tracker(Protocol):
    """One run in a tracker. Calls come from one thread; whatever they raise ends the tracking and nothing else."""

    def start(self, name: str, config: Mapping[str, Any], folder: Path) -> None:
        """A run of that name begins, under these settings; `folder` is where files may be left beside it."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers as they are at a step."""
        ...

    def finish(self, summary: Mapping[str, float], ok: bool) -> None:
        """The run came to its end with these numbers; `ok` is false if it was broken off."""
        ...


def check(names: Sequence[str]) -> None:
    """Refuse a tracker that there is none of, or whose package is not installed. Nothing of it is imported.

    Raises
    ------
    UsageError
        In one line, with the nearest name or the pip line.
    """
    for name in names:
        if name not in PACKAGES:
            raise unknown_name("tracker", name, PACKAGES)
        if find_spec(PACKAGES[name]) is None:
            raise UsageError(
                f"--track {name} needs {PACKAGES[name]}: pip install 'long-context-harness[{name}]'"
            )


def client(name: str) -> Any:
    """The tracker's own package."""
    return import_module(PACKAGES[name])
