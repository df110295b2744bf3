"""Processes that a launcher (`torchrun`, `accelerate launch`) has started together."""

from __future__ import annotations

import os


def launched() -> int:
    """How many they are; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))
