"""A gate for CI: is a run worse than its baseline by more than is allowed, and could it be seen at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..contracts.run import LoadedRun
from ..stats.bootstrap import RESAMPLES
from ..stats.paired import smallest_p
from .rows import Comparison, Row
from .verdicts import compare_many


@dataclass(frozen=True)
class Gate:
    """What a gate came to.

    Attributes
    ----------
    points
        So many points of 100 a run may lose.
    comparisons
        Of each run with the baseline, failed and missing samples counted as wrong, corrected over the rows that
        decide alone: a gate asks fewer questions than a table.
    """

    points: float
    comparisons: tuple[Comparison, ...]

    @property
    def worse(self) -> list[tuple[Comparison, Row]]:
        """The rows that close the gate."""
        return [(c, r) for c in self.comparisons for r in c.worse_by(self.points)]

    @property
    def blind(self) -> list[tuple[Comparison, Row]]:
        """Deciding rows that could be significant under no outcome: of them the gate says nothing."""
        return [(c, r) for c in self.comparisons for r in c.deciding() if r.p_adjusted is None]

    @property
    def needed(self) -> int:
        """Samples, on contexts of their own, with which each deciding row could be significant beside the others."""
        rows = sum(len(c.deciding()) for c in self.comparisons)
        alpha = round(1 - self.comparisons[0].level, 12) / rows
        n = 1
        while smallest_p(n) >= alpha:
            n += 1
        return n

    def lines(self) -> list[tuple[str, str]]:
        """What to tell, and in which colour; a gate that cannot see must not look like one that saw nothing."""
        found = [
            (f"{c.run.label} is worse on {r.name}: {100 * r.difference:+.1f} points of 100", "red")
            for c, r in self.worse
        ]
        for c in self.comparisons:
            tasks = [r for r in c.rows if not r.members]
            lost_a, lost_b = (
                sum(r.planned_a - r.finished_a for r in tasks),
                sum(r.planned_b - r.finished_b for r in tasks),
            )
            if lost_b > lost_a:
                line = f"{c.run.label} did not finish {lost_b} samples, {c.baseline.label} {lost_a}; "
                found.append((line + "this gate counts them as wrong", "yellow"))
            elif lost_a:
                found.append(("this gate counts samples that failed as wrong", "yellow"))
        if not self.worse:
            found.append((f"no run is significantly worse by more than {self.points:g} points", ""))
        if self.blind:
            named = ", ".join(f"{c.run.label} on {r.name} ({r.contexts})" for c, r in self.blind)
            line = f"too few samples to notice if it were worse, at least {self.needed} are needed: {named}"
            found.append((line, "yellow"))
        return list(dict.fromkeys(found))


def gate(
    baseline: LoadedRun,
    runs: Sequence[LoadedRun],
    points: float,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    tasks: Sequence[str] = (),
    metric: str | None = None,
) -> Gate:
    """Hold each run against the baseline; the parameters are those of `compare_many`.

    Raises
    ------
    UsageError
        If a run cannot be compared: a gate does not open because it could not look.
    """
    found = compare_many(
        baseline,
        runs,
        level,
        resamples,
        seed,
        tasks=tasks,
        metric=metric,
        failed_as_wrong=True,
        deciding=True,
    )
    return Gate(points, tuple(found))
