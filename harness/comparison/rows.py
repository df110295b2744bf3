"""What a comparison says: a row for each task or average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ..contracts.run import LoadedRun

Verdict = Literal["better", "worse", "indistinguishable", "too few samples to tell"]
TOO_FEW: Verdict = "too few samples to tell"
TELLING = 0.2
"""The difference of scores, 0..1, that `Row.samples_needed` is about."""


@dataclass(frozen=True)
class Row:
    """One line of a comparison: a task, or an average over a family's data sets.

    Attributes
    ----------
    name
        The task (``longbench/trec``), or family and average (``longbench Avg``).
    family
        What the tasks of a family have in common: ``longbench``.
    members
        Of an average: the tasks it is over. Empty for a task.
    weights
        What each of the members, or the task, counts in the means.
    metric
        The score that is compared.
    n
        Samples that are compared: finished in both, the same question.
    contexts
        Texts that the `n` are questions about; questions about one text are tested together.
    planned_a, planned_b, finished_a, finished_b
        Samples each run was asked, and finished.
    other_question
        Samples of one id, finished in both, that are left out: other references or another text.
    other_prompt
        Of the `n`: samples whose prompt was cut or rendered in another way in the two runs.
    mean_a, mean_b, difference
        Means over the `n`, 0..1; an average weighs its data sets as its family does.
    wins, losses
        Of the `n`: samples on which b scored higher, and lower.
    interval
        Of the difference: the shifts that the row's test would not reject (see
        `harness.stats.paired.difference_interval`), at the level at which Holm's correction has judged the row, so
        that it holds 0 if and only if the verdict is ``indistinguishable``. None for a row that is no test.
    p_permutation, flips, exact
        Of the paired permutation (sign-flip) test: see `harness.stats.paired.SignFlips`.
    p_mcnemar
        McNemar's exact test, for a task whose scores are all 0 or 1 and whose samples share no context.
    p
        `p_mcnemar` if there is one (it is the permutation test with every flip counted), else `p_permutation`.
    p_adjusted
        `p` after Holm's correction over the rows of the table; None for a row that is too small to be one.
    verdict
        ``better`` or ``worse`` (b than a) if `p_adjusted` is below 1 - level, else ``indistinguishable``; or
        ``too few samples to tell``, if even a difference on the same side in every sample could not be
        significant in a table of so many rows. Such rows are no tests, and are left out of the correction
        (`harness.stats.paired.tarone`).
    samples_needed
        Samples that would tell a true difference of `TELLING` in this table with a chance of 80 %, judging by how
        far the differences spread (see `harness.stats.power`); None where that is not known.
    span, need
        The interval of the difference at any level, and the samples needed at any; no part of the JSON.
    """

    name: str
    family: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    metric: str
    n: int
    contexts: int
    planned_a: int
    planned_b: int
    finished_a: int
    finished_b: int
    other_question: int
    other_prompt: int
    mean_a: float
    mean_b: float
    difference: float
    wins: int
    losses: int
    interval: tuple[float, float] | None
    p_permutation: float
    flips: int
    exact: bool
    p_mcnemar: float | None
    p_adjusted: float | None = None
    verdict: Verdict = TOO_FEW
    samples_needed: int | None = None
    span: Callable[[float], tuple[float, float] | None] = field(
        default=lambda level: None, repr=False, compare=False
    )
    need: Callable[[float], int | None] = field(default=lambda alpha: None, repr=False, compare=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the row is over: its members, or itself."""
        return self.members or (self.name,)

    @property
    def p(self) -> float:
        return self.p_permutation if self.p_mcnemar is None else self.p_mcnemar

    @property
    def whole(self) -> bool:
        """Whether every sample that either run was asked is in the comparison."""
        return self.n == self.planned_a == self.planned_b


@dataclass(frozen=True)
class Comparison:
    """A run held against a baseline.

    Attributes
    ----------
    baseline, run
        a and b.
    rows
        Tasks in the baseline's order, each family followed by its averages.
    caveats
        What a reader must know before believing a verdict: settings that differ, samples left out.
    level
        1 - the share of false alarms that is accepted over the whole table.
    tests
        How many rows Holm's correction was over: those of all comparisons made together.
    """

    baseline: LoadedRun
    run: LoadedRun
    rows: tuple[Row, ...]
    caveats: tuple[str, ...]
    level: float
    resamples: int
    seed: int
    tests: int = 0

    def deciding(self) -> list[Row]:
        """The rows that speak for the run: each family's average over most data sets; its tasks if it has none."""
        found = []
        for family in dict.fromkeys(r.family for r in self.rows):
            rows = [r for r in self.rows if r.family == family]
            averages = [r for r in rows if r.members]
            found += [max(averages, key=lambda r: len(r.members))] if averages else rows
        return found

    def worse_by(self, points: float) -> list[Row]:
        """Deciding rows that are significantly worse, and by more than `points` (of 100) as measured."""
        return [r for r in self.deciding() if r.verdict == "worse" and 100 * r.difference < -points]

    def to_json(self) -> dict[str, Any]:
        """What a program needs; scores are 0..1."""
        runs = {
            role: {
                "label": run.label,
                "hash": run.hash,
                "method": run.method,
                "model": run.model,
                "source": run.source,
            }
            for role, run in (("baseline", self.baseline), ("run", self.run))
        }
        settings = {"level": self.level, "resamples": self.resamples, "seed": self.seed, "tests": self.tests}
        rows = [
            {**{n: v for n, v in vars(r).items() if n not in ("span", "need")}, "p": r.p} for r in self.rows
        ]
        return {**runs, **settings, "caveats": list(self.caveats), "rows": rows}
