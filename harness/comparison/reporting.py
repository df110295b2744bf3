"""From runs to documents: which reports, in which order, against which run, under which title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import registry
from .._util import entry_points
from .._version import __version__
from ..contracts.run import LoadedRun
from ..errors import UsageError, unknown_name

if TYPE_CHECKING:
    from ..contracts.report import Report

DEFAULT = ("headline", "scores", "cost", "comparison")
SHORT = ("headline", "scores", "cost")
"""What a terminal shows: the headline has what the comparison would say again."""
EVERYTHING = (
    "headline",
    "comparison",
    "cost",
    "scores",
    "lengths",
    "effective",
    "grid",
    "failures",
    "samples",
)
"""What the page holds unless ``--kind`` says otherwise, in its order; then come those of other packages."""
NO_DEFAULT = ("summary", "suite")
"""Reports that only ``--kind`` asks for: they say again what others say, or are of something else than runs."""


def installed(names: Sequence[str], *, others: bool = False) -> list[str]:
    """Those of our reports that are installed; with `others` all else that is."""
    known = entry_points.claims("reports")
    rest = sorted(known.keys() - {*names, *DEFAULT, *EVERYTHING, *NO_DEFAULT}) if others else []
    return [name for name in names if name in known] + rest


def first(runs: list[LoadedRun], baseline: str | None) -> list[LoadedRun]:
    """The runs with the one that is asked for at their head. Raises UsageError if there is no such one, or several."""
    if baseline is None:
        return runs
    for fits in (
        [r for r in runs if r.label == baseline],
        [r for r in runs if r.hash.startswith(baseline)],
        [r for r in runs if r.method == baseline],
    ):
        if len(fits) == 1:
            return [fits[0], *(r for r in runs if r is not fits[0])]
        if fits:
            choices = ", ".join(f"{r.hash} ({r.label})" for r in fits)
            raise UsageError(f"--baseline {baseline} fits {len(fits)} runs; name one: {choices}")
    raise unknown_name("run to compare with (--baseline)", baseline, [r.label for r in runs])


def makers(names: Sequence[str], published: str | None) -> list[Report]:
    """The reports asked for, their options checked."""
    found = []
    taken = False
    for name in dict.fromkeys(names):
        cls = registry.report(name).cls
        takes = "published" in cls.Options.model_fields
        taken |= takes
        given = {"published": published} if takes and published else {}
        found.append(cls(cls.Options.parse(given, f"report {name}")))
    if published and not taken:
        raise UsageError(f"--published is for the scores; add --kind scores to {', '.join(names)}")
    return found


def title(runs: Sequence[LoadedRun]) -> str:
    """Methods and models, or how many there are."""
    methods = list(dict.fromkeys(run.method for run in runs))
    models = list(dict.fromkeys(run.model for run in runs))
    shown = [
        ", ".join(each) if len(each) <= 4 else f"{len(each)} {what}"
        for each, what in ((methods, "methods"), (models, "models"))
    ]
    return " on ".join(shown)


def frame(runs: Sequence[LoadedRun]) -> tuple[list[str], str]:
    """What stands above and below a page: how much was measured, and by what."""
    ok, asked = sum(run.n_ok for run in runs), sum(run.planned for run in runs)
    counted = f"{ok:,} of {asked:,} samples finished" if asked >= ok else f"{ok:,} samples finished"
    tasks = dict.fromkeys(task.name for run in runs for task in run.tasks)
    words = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((len(runs), "run"), (len(tasks), "task"))]
    lede = [f"{' over '.join(words)}; {counted}."]
    if len(runs) > 1:
        lede.append(f"Every comparison is with the first run, {runs[0].label}, on the samples both finished.")
    return (
        lede,
        f"Made by harness report (long-context-harness {__version__}) from the records of the runs alone.",
    )
