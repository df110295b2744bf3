"""How many samples a paired comparison needs, and what difference it could have seen.

Both use the normal form of the paired test (of scores of 0 and 1 that of Connett, Smith and McHugh 1987): where
there is no difference the signs of what was seen are random, so that the test's own spread holds the difference too.
What is known of the spread is the spread that was observed; scores of 0 and 1 have at least the one that the
difference asked for brings with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

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

    Returns
    -------
    int or None
        In all strata together; None where fewer than two samples say nothing of the spread.
    """
    spread = _spread(strata, weights)
    if spread is None or effect <= 0:
        return None
    fewest = math.ceil(1 - math.log2(alpha) - 1e-9)  # of fewer no outcome at all is significant
    return max(fewest, math.ceil(_needed(spread, effect, binary, alpha, power) - 1e-6))


def detectable_difference(
    strata: Sequence[Sequence[float]],
    weights: Sequence[float] | None = None,
    *,
    binary: bool = False,
    alpha: float = 0.05,
    power: float = POWER,
) -> float | None:
    """The smallest true difference that these many samples would have shown with a chance of `power`.

    The parameters are those of `samples_needed`, whose inverse this is. None where no difference could be
    significant, or the spread is not known.
    """
    spread, n = _spread(strata, weights), sum(map(len, strata))
    if spread is None or 2.0 ** (1 - n) > alpha:
        return None
    low, high = 0.0, 1.0
    while _needed(spread, high, binary, alpha, power) > n:
        if high > 1e6:
            return None
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _needed(spread, middle, binary, alpha, power) > n else (low, middle)
    return high


def _needed(spread: float, effect: float, binary: bool, alpha: float, power: float) -> float:
    normal = NormalDist()
    if binary:
        spread = max(spread, effect * (1 - effect))
    reach = normal.inv_cdf(1 - alpha / 2) * math.sqrt(spread + effect**2)
    reach += normal.inv_cdf(power) * math.sqrt(spread)
    return (reach / effect) ** 2


def _spread(strata: Sequence[Sequence[float]], weights: Sequence[float] | None) -> float | None:
    """The variance that one sample stands for in the weighted mean: that of the mean, times all samples."""
    arrays = [np.asarray(s, dtype=np.float64) for s in strata]
    if not arrays or min(map(len, arrays)) < 2:
        return None
    factors = [1 / len(strata)] * len(strata) if weights is None else weights
    n = sum(map(len, arrays))
    return float(n * sum(w * w * a.var(ddof=1) / len(a) for w, a in zip(factors, arrays)))
