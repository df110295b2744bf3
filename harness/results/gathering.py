"""What a user means by a run: a folder, a recorded baseline, one run of either, or runs that are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..contracts.run import LoadedRun, LoadedRuns
from ..errors import UsageError, unknown_name
from . import recorded_baselines
from .labels import labelled
from .loading import load_runs

Named = str | Path | Sequence[LoadedRun]


def gathered(baseline: Named, others: Sequence[Named], folder: Path) -> tuple[LoadedRun, list[LoadedRun]]:
    """The baseline and the runs, under labels that tell all of them apart.

    Raises
    ------
    UsageError
        If there is no such run, or several where one is meant.
    """
    first = _runs(baseline, folder)
    if len(first) > 1:
        choices = ", ".join(f"{_said(baseline)}:{r.hash} ({r.label})" for r in first)
        raise UsageError(f"{_said(baseline)} holds {len(first)} runs; name one as the baseline: {choices}")
    rest: dict[tuple[str, str], LoadedRun] = {}
    for name in others:
        for run in _runs(name, folder):
            rest.setdefault((run.source, run.hash), run)
    if len(rest) > 1:  # a folder of runs may hold the baseline too
        rest.pop((first[0].source, first[0].hash), None)
    a, *runs = labelled([*first, *rest.values()])
    return a, runs


def read(named: Sequence[Named]) -> LoadedRuns:
    """The runs of several folders, or those that are loaded already, under labels that tell them apart."""
    paths = [each for each in named if isinstance(each, str | Path)]
    if len(paths) == len(named):
        return load_runs(paths)
    found: dict[tuple[str, str], LoadedRun] = {}
    for each in named:
        for run in load_runs(each) if isinstance(each, str | Path) else each:
            found.setdefault((run.source, run.hash), run)
    return LoadedRuns(labelled(list(found.values())))


def _said(name: Named) -> str:
    return str(name) if isinstance(name, str | Path) else "what was given as the baseline"


def _runs(name: Named, folder: Path) -> list[LoadedRun]:
    """Run folders, a recorded baseline, or one run of either."""
    if not isinstance(name, str | Path):
        return list(name)
    name = str(name)
    if Path(name).is_dir():
        return load_runs([name])
    whole, colon, digest = name.rpartition(":")
    if not colon or Path(name).is_file():
        return recorded_baselines.read(recorded_baselines.find(name, folder))
    runs = _runs(whole, folder)
    chosen = [r for r in runs if digest and r.hash.startswith(digest)]
    if len(chosen) != 1:
        raise unknown_name(f"one run of {whole}", digest, [r.hash for r in runs])
    return chosen
