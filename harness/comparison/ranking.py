"""Which of several runs are not beaten: what may be set in bold in a table.

In each column (a task, or an average of a family) the run with the highest mean is tested against every
other, paired on the samples that both finished; Holm's correction is over all of a table's tests. Those that
it does not beat significantly share the first place with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..contracts.run import LoadedRun
from ..stats.paired import contributions, holm, mcnemar, sign_flips, smallest_p
from .pairing import Pairs, pair_up

ALPHA = 0.05
NORMAL = 200
"""Differences from which on the sum under random signs is taken as normal, which it then is, instead of drawn."""


def unbeaten(
    runs: Sequence[LoadedRun],
    columns: Mapping[str, Mapping[str, float]],
    means: Mapping[str, Mapping[str, float | None]],
) -> dict[str, set[str]]:
    """Labels of the runs that share the first place of each column.

    Parameters
    ----------
    columns
        For each column the weight of each of its tasks in the column's mean.
    means
        For each column the mean of each run, by label; None where it has none.

    Returns
    -------
    dict
        A column is left out if fewer than two runs have a mean there, or nobody is beaten: then the order
        is not known, and no run deserves a mark that another lacks.
    """
    leaders: dict[str, str] = {}
    tests: list[tuple[str, str, float]] = []
    by_label = {run.label: run for run in runs}
    paired: dict[tuple[str, str, str], Pairs] = {}
    for column, weights in columns.items():
        ranked = {label: m for label, m in means[column].items() if m is not None}
        if len(ranked) < 2:
            continue
        leader = max(ranked, key=lambda label: ranked[label])
        leaders[column] = leader
        for label in ranked.keys() - {leader}:
            p = _test(by_label[leader], by_label[label], weights, paired)
            if p is not None:
                tests.append((column, label, p))
    adjusted = holm([p for _, _, p in tests]) if tests else []
    beaten: dict[str, set[str]] = {}
    for (column, label, _), p in zip(tests, adjusted):
        if p < ALPHA:
            beaten.setdefault(column, set()).add(label)
    return {
        column: {label for label, mean in means[column].items() if mean is not None} - losers
        for column, losers in beaten.items()
    }


def _test(
    leader: LoadedRun,
    other: LoadedRun,
    weights: Mapping[str, float],
    paired: dict[tuple[str, str, str], Pairs],
) -> float | None:
    """The p-value of the leader's lead; None if there is nothing to test, or no outcome could be significant.

    `paired` keeps what was paired already: an average pairs the samples of its tasks again.
    """
    strata: list[Pairs] = []
    for task in weights:
        if leader.task(task) is None or other.task(task) is None:
            return None
        key = leader.label, other.label, task
        if key not in paired:
            paired[key] = pair_up(other, leader, task)
        strata.append(paired[key])
    if not all(p.a for p in strata):
        return None
    differences = [p.differences for p in strata]
    parts = contributions(differences, list(weights.values()), [p.contexts for p in strata])
    if smallest_p(len(parts)) >= ALPHA:
        return None
    if parts.sum() <= 0:  # it leads over its own samples, but not over those that both have
        return 1.0
    alone = len(strata) == 1 and len(parts) == len(strata[0].a)
    exact = mcnemar(strata[0].a, strata[0].b) if alone else None
    if exact is not None:
        return exact
    if np.count_nonzero(parts) < NORMAL:
        return sign_flips(parts.tolist()).p
    return math.erfc(abs(float(parts.sum())) / math.sqrt(2 * float(parts @ parts)))
