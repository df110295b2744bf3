"""Is one run better than another? Paired on sample ids, tested, corrected for the number of questions asked.

The baseline is `a`, the other run `b`; a difference is b's mean minus a's, so positive is better. Only
samples that both runs finished and that asked the same question are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..contracts.run import LoadedRun
from ..errors import UsageError
from ..stats.bootstrap import RESAMPLES
from ..stats.paired import contributions, difference_interval, holm, mcnemar, sign_flips, smallest_p, tarone
from ..stats.power import samples_needed
from .averages import average_weights
from .pairing import Pairs, caveats, common, nothing_common, pair_up, with_failures
from .rows import TELLING, Comparison, Row, Verdict


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
    failed_as_wrong: bool = False,
    deciding: bool = False,
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
    failed_as_wrong
        Count samples that failed, or are missing, as wrong, in both runs, instead of leaving them out.
    deciding
        Test only the rows that decide (`Comparison.deciding`), so that the correction is for as few as can be.

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
        names = common(baseline, run, tasks)
        matched = [pair_up(baseline, run, name, metric, failed_as_wrong) for name in names]
        pairs = [p for p in matched if p.a]
        if not pairs:
            raise UsageError(nothing_common(baseline, run, matched))
        how = How(level, resamples, seed)
        averages, remarks = _averages(pairs, how)
        rows = _ordered([*(_task_row(p, how) for p in pairs), *averages])
        notes = (*caveats(baseline, run, matched), *with_failures(baseline, run, matched), *remarks)
        found.append(Comparison(baseline, run, tuple(rows), notes, level, resamples, seed))
    return _judged(found, level, deciding)


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


def compare_all(
    baseline: LoadedRun,
    runs: Sequence[LoadedRun],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    tasks: Sequence[str] = (),
    metric: str | None = None,
) -> tuple[list[Comparison], list[str]]:
    """`compare_many` over the runs that can be compared, and why each of the others cannot.

    A run with nothing in common with the baseline so does not hide the rest.

    Raises
    ------
    UsageError
        If none can.
    """
    try:
        return compare_many(baseline, runs, level, resamples, seed, tasks=tasks, metric=metric), []
    except UsageError:
        kept, reasons = comparable(baseline, runs, tasks=tasks, metric=metric)
        if not kept:
            raise
        return compare_many(baseline, kept, level, resamples, seed, tasks=tasks, metric=metric), reasons


def _judged(comparisons: Sequence[Comparison], level: float, deciding: bool) -> list[Comparison]:
    """Verdicts, after Holm's correction over all rows, or all that decide, that could be significant at all."""
    alpha = round(1 - level, 12)  # 1 - 0.95 is a little more than 0.05
    rows = [r for c in comparisons for r in (c.deciding() if deciding else c.rows)]
    bound = tarone([smallest_p(r.contexts) for r in rows], alpha)
    tests = [r for r in rows if smallest_p(r.contexts) < bound]
    adjusted = dict(zip(map(id, tests), holm([r.p for r in tests])))

    def judged(row: Row) -> Row:
        p = adjusted.get(id(row))
        row = replace(row, samples_needed=row.need(alpha / max(1, len(tests))))
        if p is None:
            return row
        verdict: Verdict = "indistinguishable"
        if p < alpha:
            verdict = "better" if row.difference > 0 else "worse"
        # The level at which this row was judged, of all rows: the interval says what the verdict says.
        found = row.span(1 - alpha * row.p / p) if p else None
        return replace(row, p_adjusted=p, verdict=verdict, interval=agreeing(found, verdict))

    return [replace(c, rows=tuple(map(judged, c.rows)), tests=len(tests)) for c in comparisons]


def agreeing(interval: tuple[float, float] | None, verdict: Verdict) -> tuple[float, float] | None:
    """The interval on the verdict's side of 0: both are drawn, and at the border they may differ in a draw."""
    if interval is None:
        return None
    low, high = interval
    if verdict == "better":
        return max(low, 0.0), high
    if verdict == "worse":
        return low, min(high, 0.0)
    return min(low, 0.0), max(high, 0.0)


@dataclass(frozen=True)
class How:
    """How the rows of one comparison are tested."""

    level: float
    resamples: int
    seed: int


def _task_row(pairs: Pairs, how: How) -> Row:
    family = pairs.task.partition("/")[0]
    alone = pairs.on_contexts == len(pairs.a)  # of dependent samples no exact test is one
    return _row(pairs.task, family, (), [pairs], [1.0], how, mcnemar(pairs.a, pairs.b) if alone else None)


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
    contexts = [p.contexts for p in strata]
    parts = contributions(differences, weights, contexts)
    flips = sign_flips(parts.tolist(), how.resamples, how.seed)
    means = [
        sum(w * float(np.mean(scores)) for w, scores in zip(weights, side))
        for side in ([p.a for p in strata], [p.b for p in strata])
    ]
    signs = np.sign(np.concatenate(differences))
    binary = all(score in (0.0, 1.0) for p in strata for side in (p.a, p.b) for score in side)
    return Row(
        name=name,
        family=family,
        members=members,
        weights=tuple(weights),
        metric=strata[0].metric,
        n=sum(len(p.a) for p in strata),
        contexts=len(parts),
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
        interval=None,
        p_permutation=flips.p,
        flips=flips.flips,
        exact=flips.exact,
        p_mcnemar=p_mcnemar,
        span=lambda level: difference_interval(
            differences, weights, level, how.resamples, how.seed, clusters=contexts
        ),
        need=lambda alpha: samples_needed(
            differences, TELLING, weights, binary=binary, alpha=alpha, clusters=contexts
        ),
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


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Tasks as they come, each family followed by its averages."""
    return [row for family in dict.fromkeys(r.family for r in rows) for row in rows if row.family == family]
