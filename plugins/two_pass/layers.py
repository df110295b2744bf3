"""Which layers' attention is relevance: those asked for, else those a calibration or a record names, else all."""

from __future__ import annotations

import json

from harness import UsageError
from harness._util import artifacts

ALL = "all"
"""What ``--first-layers`` says for the paper's way, whatever is recorded for the adapter."""
KIND = "first_layers"
"""Folder of the records, in the cache and in what packages ship: one file for the weights of each compressor."""


def span(layers: str) -> tuple[int, int] | None:
    """The first of ``13-18``, counted from 0, and one more than the last; None for all.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if layers == ALL:
        return None
    first, _, last = layers.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise ValueError(f"{layers!r} is no range of layers, which is written 13-18; or say {ALL}")
    return int(first) - 1, int(last)


def record_name(weights: str) -> str:
    """The file name of the record for compressor weights of that hash."""
    return f"{weights[:24]}.json"


def record(weights: str, layers: str, why: str) -> str:
    """The text of a record: with compressor weights of that hash relevance is best taken from `layers`."""
    return json.dumps({"beacon_weights": weights, "first_layers": layers, "why": why}, indent=2) + "\n"


def recorded(weights: str) -> str | None:
    """The layers recorded for compressor weights of that hash; None if nothing is. Raises UsageError if damaged."""
    path = artifacts.find(KIND, record_name(weights))
    if path is None:
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["beacon_weights"] != weights:
            return None
        span(said["first_layers"])
        return str(said["first_layers"])
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise UsageError(
            f"record of layers {path} is damaged ({error}); delete it, or give --first-layers"
        ) from None
