"""Intervals against SciPy's, the same each time, and none where there is nothing to say."""

import numpy as np
import pytest
from scipy import stats

from harness.stats.bootstrap import bootstrap, confidence_interval, mean, percentiles, resampled_means, wilson

SCORES = [0.0, 0.12, 0.31, 0.33, 0.5, 0.61, 0.7, 0.98, 1.0, 0.25]


def test_the_mean_of_nothing_is_none():
    assert mean([]) is None
    assert mean([0.25, 0.5]) == 0.375 and isinstance(mean([1]), float)


@pytest.mark.parametrize(("successes", "n"), [(0, 3), (3, 3), (1, 2), (7, 10), (50, 100), (0, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_wilsons_formula(successes, n, level):
    z = stats.norm.ppf((1 + level) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson(successes, n, level) == pytest.approx((centre - half, centre + half), abs=1e-9)


def test_scores_of_right_and_wrong_get_wilsons_interval():
    scores = [1.0, 0.0, 1.0, 1.0]
    assert confidence_interval(scores) == wilson(3, 4)
    assert confidence_interval([0.0, 0.0]) == wilson(0, 2), "not [0, 0]: two samples prove little"
    assert confidence_interval([1, 1, 1], level=0.9) == wilson(3, 3, 0.9)


def test_other_scores_get_the_percentile_bootstrap():
    ours = confidence_interval(SCORES)
    theirs = stats.bootstrap(
        (SCORES,), np.mean, n_resamples=20_000, method="percentile", random_state=1
    ).confidence_interval
    assert ours == bootstrap([SCORES])
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours[0] < np.mean(SCORES) < ours[1]


def test_the_level_widens_and_samples_narrow_it():
    narrow, wide = bootstrap([SCORES], level=0.5), bootstrap([SCORES], level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    many = bootstrap([SCORES * 20])
    assert many[1] - many[0] < (wide[1] - wide[0]) / 3


def test_it_is_the_same_each_time_and_another_with_another_seed():
    assert confidence_interval(SCORES) == confidence_interval(SCORES)
    assert confidence_interval(SCORES, seed=1) != confidence_interval(SCORES, seed=2)


@pytest.mark.parametrize("scores", [[], [1.0], [0.5], [0.2, 0.4]])
def test_too_few_samples_have_no_interval(scores):
    assert confidence_interval(scores) is None


def test_strata_are_weighed_alike_and_resampled_within():
    low, high = [0.1, 0.2, 0.3], [0.7, 0.8, 0.9, 0.8] * 50
    found = bootstrap([low, high])
    assert found[0] < (np.mean(low) + np.mean(high)) / 2 < found[1]
    # Resampling within: no draw can mix the strata, so the spread is that of two small spreads.
    assert found[1] - found[0] < 0.15
    means = resampled_means([low, high])
    assert means.shape == (2, 10_000)
    assert means[0].max() <= 0.3 + 1e-9 and means[1].min() >= 0.7 - 1e-9
    assert means.mean(axis=1) == pytest.approx([np.mean(low), np.mean(high)], abs=0.01)


def test_many_samples_take_no_more_memory():
    # 10,000 resamples of 30,000 samples at once would be 2.4 GB.
    scores = np.linspace(0, 1, 30_000)
    expected = 1.96 * scores.std() / np.sqrt(len(scores))
    low, high = bootstrap([scores])
    assert (high - low) / 2 == pytest.approx(expected, rel=0.1)


def test_percentiles_hold_the_middle():
    assert percentiles(list(range(101)), 0.9) == pytest.approx((5, 95))


def test_scores_that_are_all_alike_have_an_interval_with_width():
    low, high = bootstrap([[0.0] * 10, [0.0] * 10])
    assert low == 0 and high == pytest.approx(1 - 0.05 ** (1 / 20))
    low, high = confidence_interval([0.5] * 8)
    assert 0 < low < 0.5 < high < 1
