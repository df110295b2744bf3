"""How many samples a paired comparison needs, and what difference it could have seen.

Both use the normal form of the paired test (of scores of 0 and 1 that of Connett, Smith and McHugh 1987): where
there is no difference the signs of what was seen are random, so that the test's own spread holds the difference too.
What is known of the spread is the spread that was observed; scores of 0 and 1 have at least the one that the
difference asked for brings with it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .bootstrap import clustered, summed, variance_of_mean

POWER = 0.8
"""The chance of being seen that a difference is asked to have, by custom (Cohen 1988)."""


def samples_needed(
    strata: Sequence[Sequence[float]],
    effect: float,
    weights: Sequence[float] | None = None,
    *,
    binary: bool = False,
    alpha: float = 0.05,
    power: float = POWER,
    clusters: Sequence[Sequence[Hashable]] | None = None,
) -> int | None:
    """Samples of which a true difference of `effect` would be significant with a chance of `power`.

    Parameters
    ----------
    strata
        The differences that were observed, of each stratum; the samples are shared out among strata as here.
    effect
        In the unit of the differences, above 0.
    weights
        What each stratum's mean counts; default: all the same, adding up to 1.
    binary
        Whether the scores are all 0 or 1.
    alpha
        Two-sided level of the test; of one among several its share of the whole.
    clusters
        What each sample shares with others (see `harness.stats.average_interval`): whole clusters are tested, and
        samples are taken to come in clusters as large as these.

    Returns
    -------
    int or None
        In all strata together; None where fewer than two samples say nothing of the spread.
    """
    seen = _seen(strata, weights, clusters)
    if seen is None or effect <= 0:
        return None
    fewest = math.ceil(1 - math.log2(alpha) - 1e-9)  # of fewer clusters no outcome at all is significant
    n = max(fewest * seen.n / seen.clusters, _needed(seen, effect, binary, alpha, power))
    return math.ceil(n - 1e-6)


def detectable_difference(
    strata: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
    *,
    binary: bool = False,
    alpha: float = 0.05,
    power: float = POWER,
    clusters: Sequence[Sequence[Hashable]] | None = None,
) -> float | None:
    """The smallest true difference that these many samples would have shown with a chance of `power`.

    The parameters are those of `samples_needed`, whose inverse this is. None where no difference could be
    significant, or the spread is not known.
    """
    seen = _seen(strata, weights, clusters)
    if seen is None or 2.0 ** (1 - seen.clusters) > alpha:
        return None
    low, high = 0.0, 1.0
    while _needed(seen, high, binary, alpha, power) > seen.n:
        if high > 1e6:
            return None
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _needed(seen, middle, binary, alpha, power) > seen.n else (low, middle)
    return high


@dataclass(frozen=True)
class _Seen:
    """What differences say of the test on more of their kind.

    Attributes
    ----------
    n, clusters
        Samples, and what is independent of them.
    spread
        The variance that one sample stands for in the weighted mean: that of the mean, times all samples.
    worth
        How many independent samples' spread a sample has (the design effect), at least 1.
    shift
        What the square of a difference adds to a sample's share of the flipped statistic's variance, in its units:
        1 for independent samples, the size of clusters where whole ones are flipped.
    """

    n: int
    clusters: int
    spread: float
    worth: float
    shift: float


def _needed(seen: _Seen, effect: float, binary: bool, alpha: float, power: float) -> float:
    normal = NormalDist()
    spread = seen.spread
    if binary:
        spread = max(spread, effect * (1 - effect) * seen.worth)
    reach = normal.inv_cdf(1 - alpha / 2) * math.sqrt(spread + seen.shift * effect**2)
    reach += normal.inv_cdf(power) * math.sqrt(spread)
    return (reach / effect) ** 2


def _seen(
    strata: Sequence[Sequence[float]],
    weights: Sequence[float] | None,
    clusters: Sequence[Sequence[Hashable]] | None,
) -> _Seen | None:
    arrays = [np.asarray(s, dtype=np.float64) for s in strata]
    if not arrays or min(map(len, arrays)) < 2:
        return None
    factors = [1 / len(strata)] * len(strata) if weights is None else list(weights)
    named = clustered(strata, clusters)
    flat = [c for mine in named for c in mine]
    n, count = len(flat), len(set(flat))
    variance = variance_of_mean(arrays, factors, named)[0]
    alone = sum(w * w * float(a.var(ddof=1)) / len(a) for w, a in zip(factors, arrays))
    shift = 1.0
    if count < n:
        shares = np.concatenate([np.full(len(a), w / len(a)) for w, a in zip(factors, arrays)])
        shift = n * float(np.square(summed(shares, flat)).sum()) / float(shares.sum()) ** 2
    # Differences that are all alike do not say how alike a cluster's are: then as alike as can be.
    return _Seen(n, count, n * variance, variance / alone if alone > 1e-15 else shift, shift)
