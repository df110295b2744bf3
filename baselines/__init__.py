"""What results are held against, and what ships ready for the default model: data, no code of methods."""

from __future__ import annotations

from pathlib import Path


def artifacts() -> Path:
    """The folder of files that methods would otherwise compute (see `harness._util.artifacts`)."""
    return Path(__file__).parent
