"""Is one run better than another? Paired on sample ids, tested, corrected for the number of questions asked.

The baseline is `a`, the other run `b`; a difference is b's mean minus a's, so positive is better. Only
samples that both runs finished and that asked the same question are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import registry
from ._pairing import Pairs, caveats, common, nothing_common, pair_up
from .contracts.run import LoadedRun
from .errors import UsageError
from .stats.bootstrap import RESAMPLES, resampled_means
from .stats.paired import contributions, difference_interval, holm, mcnemar, sign_flips, smallest_p

Verdict = Literal["better", "worse", "indistinguishable", "too few samples to tell"]
TOO_FEW: Verdict = "too few samples to tell"
PLAIN_MEAN = "mean of tasks"


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
    metric
        The score that is compared.
    n
        Samples that are compared: finished in both, the same question.
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
        Of the difference, by a paired bootstrap stratified by data set; None where it says nothing. It is
        one row's own: not corrected for the number of rows.
    p_permutation, flips, exact
        Of the paired permutation (sign-flip) test: see `harness.stats.paired.SignFlips`.
    p_mcnemar
        McNemar's exact test, for a task whose scores are all 0 or 1.
    p
        `p_mcnemar` if there is one (it is the permutation test with every flip counted), else `p_permutation`.
    p_adjusted
        `p` after Holm's correction over the rows of the table; None for a row that is too small to be one.
    verdict
        ``better`` or ``worse`` (b than a) if `p_adjusted` is below 1 - level, else ``indistinguishable``; or
        ``too few samples to tell``, if even a difference on the same side in every sample could not be
        significant. Such rows are no tests, and are left out of the correction (Tarone 1990).
    """

    name: str
    family: str
    members: tuple[str, ...]
    metric: str
    n: int
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
        rows = [{**asdict(r), "p": r.p} for r in self.rows]
        return {**runs, **settings, "caveats": list(self.caveats), "rows": rows}


def compare(
    a: LoadedRun,
    b: LoadedRun,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    tasks: Sequence[str] = (),
    metric: str | None = None,
) -> Comparison:
    """Hold the run `b` against the baseline `a`; see `compare_many`."""
    return compare_many(a, [b], level, resamples, seed, tasks=tasks, metric=metric)[0]


def compare_many(
    baseline: LoadedRun,
    runs: Sequence[LoadedRun],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    tasks: Sequence[str] = (),
    metric: str | None = None,
) -> list[Comparison]:
    """Hold each run against one baseline; Holm's correction is over all rows of all of them.

    Parameters
    ----------
    level
        1 - the share of false alarms accepted over the whole table; also the level of each interval.
    resamples
        Of each bootstrap, and sign flips drawn where there are too many to try all.
    seed
        Of everything drawn.
    tasks
        Only these tasks, or families of tasks.
    metric
        Another score than each task's main one.

    Raises
    ------
    UsageError
        If there is nothing to compare, or a run's numbers are not to be believed.
    """
    found = []
    for run in runs:
        for each in (baseline, run):
            if each.status == "failed":
                raise UsageError(
                    f"{each.source} is marked as failed ({each.content.get('error')}): its numbers are not to be "
                    "believed; run it again"
                )
        matched = [pair_up(baseline, run, name, metric) for name in common(baseline, run, tasks)]
        pairs = [p for p in matched if p.a]
        if not pairs:
            raise UsageError(nothing_common(baseline, run, matched))
        drawn = resampled_means([p.differences for p in pairs], seed, resamples)
        how = How(level, resamples, seed, dict(zip((p.task for p in pairs), drawn)))
        averages, remarks = _averages(pairs, how)
        rows = _ordered([*(_task_row(p, how) for p in pairs), *averages])
        notes = (*caveats(baseline, run, matched), *remarks)
        found.append(Comparison(baseline, run, tuple(rows), notes, level, resamples, seed))
    return _judged(found, level)


def comparable(
    baseline: LoadedRun, runs: Sequence[LoadedRun], *, tasks: Sequence[str] = (), metric: str | None = None
) -> tuple[list[LoadedRun], list[str]]:
    """The runs that can be held against the baseline, and why each of the others cannot."""
    kept, reasons = [], []
    for run in runs:
        try:
            compare_many(baseline, [run], resamples=1, tasks=tasks, metric=metric)
        except UsageError as error:
            reasons.append(str(error))
        else:
            kept.append(run)
    return kept, reasons


def _judged(comparisons: Sequence[Comparison], level: float) -> list[Comparison]:
    """Verdicts, after Holm's correction over all rows that could be significant at all."""
    alpha = round(1 - level, 12)  # 1 - 0.95 is a little more than 0.05
    tests = [r for c in comparisons for r in c.rows if smallest_p(r.n) < alpha]
    adjusted = dict(zip(map(id, tests), holm([r.p for r in tests])))

    def judged(row: Row) -> Row:
        p = adjusted.get(id(row))
        if p is None:
            return row
        verdict: Verdict = "indistinguishable"
        if p < alpha:
            verdict = "better" if row.difference > 0 else "worse"
        return replace(row, p_adjusted=p, verdict=verdict)

    return [replace(c, rows=tuple(map(judged, c.rows)), tests=len(tests)) for c in comparisons]


@dataclass(frozen=True)
class How:
    """How the rows of one comparison are tested; `drawn` has resampled mean differences by task."""

    level: float
    resamples: int
    seed: int
    drawn: Mapping[str, NDArray[np.float64]]


def _task_row(pairs: Pairs, how: How) -> Row:
    family = pairs.task.partition("/")[0]
    return _row(pairs.task, family, (), [pairs], [1.0], how, mcnemar(pairs.a, pairs.b))


def _row(
    name: str,
    family: str,
    members: tuple[str, ...],
    strata: Sequence[Pairs],
    weights: Sequence[float],
    how: How,
    p_mcnemar: float | None = None,
) -> Row:
    differences = [p.differences for p in strata]
    parts = contributions(differences, weights)
    flips = sign_flips(parts.tolist(), how.resamples, how.seed)
    resampled = np.array([how.drawn[p.task] for p in strata])
    means = [
        sum(w * float(np.mean(scores)) for w, scores in zip(weights, side))
        for side in ([p.a for p in strata], [p.b for p in strata])
    ]
    signs = np.sign(np.concatenate(differences))
    return Row(
        name=name,
        family=family,
        members=members,
        metric=strata[0].metric,
        n=sum(len(p.a) for p in strata),
        planned_a=sum(p.planned[0] for p in strata),
        planned_b=sum(p.planned[1] for p in strata),
        finished_a=sum(p.finished[0] for p in strata),
        finished_b=sum(p.finished[1] for p in strata),
        other_question=sum(p.other_question for p in strata),
        other_prompt=sum(p.other_prompt for p in strata),
        mean_a=means[0],
        mean_b=means[1],
        difference=float(parts.sum()),
        wins=int((signs > 0).sum()),
        losses=int((signs < 0).sum()),
        interval=difference_interval(differences, weights, how.level, means=resampled),
        p_permutation=flips.p,
        flips=flips.flips,
        exact=flips.exact,
        p_mcnemar=p_mcnemar,
    )


def _averages(pairs: Sequence[Pairs], how: How) -> tuple[list[Row], list[str]]:
    """A row for each average of each family, and remarks on what could not be averaged."""
    families: dict[str, dict[str, Pairs]] = {}
    for p in pairs:
        family, _, variant = p.task.partition("/")
        if variant and p.main:  # averages are defined over main scores
            families.setdefault(family, {})[variant] = p
    rows: list[Row] = []
    remarks: list[str] = []
    for family, members in families.items():
        try:
            found, others = average_weights(family, list(members))
        except UsageError as error:
            remarks.append(f"no averages of {family}: {error}")
            continue
        remarks += [
            f"{family} {name} is no weighted mean of its data sets and is not compared" for name in others
        ]
        for name, weights in found.items():
            chosen = [members[variant] for variant in weights]
            tasks = tuple(p.task for p in chosen)
            rows.append(_row(f"{family} {name}", family, tasks, chosen, list(weights.values()), how))
    return rows, remarks


def average_weights(family: str, variants: Sequence[str]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """What each variant counts in each of its family's averages, found by asking the family.

    Returns
    -------
    tuple
        ``{average: {variant: weight}}`` without weights of 0 and without averages over a single variant, which
        are that variant; and the names of averages that are no weighted means. Where none is over all of the
        variants (a part of LongBench was asked), `PLAIN_MEAN` is, each of them counting the same.

    Raises
    ------
    UsageError
        If the family is not installed here.
    """
    cls = registry.task_class(family)[0].cls
    zeros = dict.fromkeys(variants, 0.0)
    probe = {v: (i + 1) / (len(variants) + 1) for i, v in enumerate(variants)}
    at_zero, at_probe = cls.averages(zeros), cls.averages(probe)
    units = {v: cls.averages({**zeros, v: 1.0}) for v in variants}
    found: dict[str, dict[str, float]] = {}
    others = []
    for name, value in at_probe.items():
        weights = {v: unit.get(name, 0.0) for v, unit in units.items()}
        if at_zero.get(name) != 0.0 or abs(sum(w * probe[v] for v, w in weights.items()) - value) > 1e-9:
            others.append(name)
        elif sum(w != 0 for w in weights.values()) > 1:
            found[name] = {v: w for v, w in weights.items() if w}
    if len(variants) > 1 and all(len(w) < len(variants) for w in found.values()):
        found[PLAIN_MEAN] = dict.fromkeys(variants, 1 / len(variants))
    return found, others


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Tasks as they come, each family followed by its averages."""
    return [row for family in dict.fromkeys(r.family for r in rows) for row in rows if row.family == family]
