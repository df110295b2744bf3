"""What tasks over lengths and depths share: checks of their options, and means of rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeVar

from harness.contracts import ScoredSample

Values = TypeVar("Values", bound=Sequence[float] | None)


LONGEST = 10**9
"""Tokens of the longest text that may be asked for."""


def checked_lengths(lengths: Values) -> Values:
    """Lengths in tokens, each once, at least 1 and at most `LONGEST`; ValueError otherwise, None stays None."""
    if lengths is not None:
        _distinct(lengths)
        if min(lengths) < 1:
            raise ValueError("a length must be at least 1")
        if max(lengths) > LONGEST:
            raise ValueError(f"a length must be at most {LONGEST:,}: no longer text can be made here")
    return lengths


def checked_depths(depths: Values) -> Values:
    """Depths in percent, each once and between 0 and 100; ValueError otherwise."""
    if depths is not None:
        _distinct(depths)
        if not all(0 <= depth <= 100 for depth in depths):
            raise ValueError("a depth must lie between 0 and 100")
    return depths


Cell = tuple[int, float, int]


def in_turns(lengths: Sequence[int], depths: Sequence[float], trials: int, limit: int | None) -> set[Cell]:
    """The cells (length, depth, trial) that a limit leaves: lengths and depths come in turns, along diagonals.

    The first as many as there are lengths hold each length once, at depths that differ; a larger limit only adds
    cells to those of a smaller one.
    """
    cells: set[Cell] = set()
    for trial, step, number in product(range(trials), range(len(depths)), range(len(lengths))):
        if limit is not None and len(cells) >= limit:
            break
        cells.add((lengths[number], depths[(number + step) % len(depths)], trial))
    return cells


def part_means(scored: Sequence[ScoredSample], metric: str, facts: Sequence[str]) -> dict[str, float]:
    """Mean of `metric` for each value of each fact of the metadata that has several: ``length 4096``."""
    rows: dict[str, float] = {}
    for fact in facts:
        cells: dict[float, list[float]] = {}
        for sample in scored:
            cells.setdefault(sample.metadata[fact], []).append(sample.scores[metric])
        if len(cells) > 1:
            rows |= {f"{fact} {plain(v)}": sum(cells[v]) / len(cells[v]) for v in sorted(cells)}
    return rows


def means_by(scored: Sequence[ScoredSample], fact: str, names: Sequence[str]) -> dict[str, float]:
    """The mean ``score`` of the samples of each name that `fact` has, in the order of `names`; none without samples."""
    found = {name: [s.scores["score"] for s in scored if s.metadata[fact] == name] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items() if values}


def plain(value: float) -> str:
    """A number as people write it: 50, not 50.0."""
    return str(int(value)) if float(value).is_integer() else str(value)


def _distinct(values: Sequence[float]) -> None:
    if not values:
        raise ValueError("give at least one value")
    if len(set(values)) < len(values):
        raise ValueError("a value is given twice")
