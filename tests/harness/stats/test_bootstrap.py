"""Intervals that hold as often as they say, at few samples and of dependent ones; none where nothing is known."""

import numpy as np
import pytest
from scipy import stats

from harness.stats.bootstrap import (
    average_interval,
    confidence_interval,
    drawn_means,
    mean,
    percentiles,
    wilson,
)

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


def test_other_scores_get_wilsons_interval_at_the_number_that_has_their_spread():
    m, v = np.mean(SCORES), np.var(SCORES, ddof=1) / len(SCORES)
    t, n = stats.t.ppf(0.975, len(SCORES) - 1), m * (1 - m) / v
    centre, half = m + t * t / (2 * n), t * np.sqrt(m * (1 - m) / n + t * t / (4 * n * n))
    expected = (centre - half) / (1 + t * t / n), (centre + half) / (1 + t * t / n)
    assert confidence_interval(SCORES) == pytest.approx(expected)
    assert confidence_interval(SCORES) == average_interval([SCORES])


def test_values_beyond_0_and_1_get_students_interval():
    values = [2.5, 3.0, 1.5, 4.0]
    theirs = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert confidence_interval(values) == pytest.approx(theirs)


DRAWS = {
    "normal": (lambda rng, n: np.clip(rng.normal(0.5, 0.1, n), 0, 1), 0.5),
    "two ends": (lambda rng, n: rng.beta(0.4, 0.8, n), 1 / 3),
    "skewed": (lambda rng, n: rng.beta(3, 9, n), 0.25),
    "many zeros and ones": (
        lambda rng, n: np.select([(u := rng.random(n)) < 0.4, u < 0.6], [0.0, 1.0], rng.random(n)),
        0.4,
    ),
}


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("n", [5, 10, 20])
def test_it_holds_as_often_as_it_says_at_few_samples(kind, n):
    draw, truth = DRAWS[kind]
    rng = np.random.default_rng(n)
    found = [confidence_interval(draw(rng, n)) for _ in range(1500)]
    held = np.mean([low <= truth <= high for low, high in found])
    assert 0.93 < held < 0.985, "the percentile bootstrap holds 80 % at 5 samples"


def test_questions_on_one_text_are_no_independent_samples():
    rng = np.random.default_rng(0)
    held = {True: 0, False: 0}
    for _ in range(400):
        shared = rng.normal(0, np.sqrt(0.2), 20).repeat(
            10
        )  # 20 contexts with 10 questions, correlated by 0.2
        scores = np.clip(0.5 + 0.1 * (shared + rng.normal(0, np.sqrt(0.8), 200)), 0, 1)
        for clustered in held:
            low, high = confidence_interval(scores, clusters=np.arange(20).repeat(10) if clustered else None)
            held[clustered] += low <= 0.5 <= high
    assert 0.92 < held[True] / 400 < 0.98 and held[False] / 400 < 0.85


def test_right_and_wrong_on_shared_texts_are_no_wider_than_they_must_be():
    rng = np.random.default_rng(1)
    scores = (rng.random(60) < 0.5).astype(float)
    assert confidence_interval(scores, clusters=list(range(60))) == wilson(int(scores.sum()), 60)
    together = confidence_interval([0.0] * 30 + [1.0] * 30, clusters=np.arange(6).repeat(10))
    assert together[1] - together[0] > 0.6, "six texts, each all right or all wrong"
    # One text: of others nothing can be said, and its questions are taken as they are.
    assert confidence_interval(scores, clusters=["a"] * 60) == confidence_interval(scores)


def test_sets_that_repeat_a_text_are_no_independent_sets():
    one = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.15, 0.95]
    apart = average_interval([one, one], clusters=[list("abcdefgh"), list("ijklmnop")])
    again = average_interval([one, one], clusters=[list("abcdefgh"), list("abcdefgh")])
    assert again[1] - again[0] > 1.3 * (apart[1] - apart[0])
    assert apart == average_interval([one, one])


def test_the_level_widens_and_samples_narrow_it():
    narrow, wide = average_interval([SCORES], level=0.5), average_interval([SCORES], level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    many = average_interval([SCORES * 20])
    assert many[1] - many[0] < (wide[1] - wide[0]) / 3


@pytest.mark.parametrize("scores", [[], [1.0], [0.5], [0.2, 0.4]])
def test_too_few_samples_have_no_interval(scores):
    assert confidence_interval(scores) is None


def test_strata_are_weighed_and_vary_within_alone():
    low, high = [0.1, 0.2, 0.3], [0.7, 0.8, 0.9, 0.8] * 50
    found = average_interval([low, high])
    assert found[0] < (np.mean(low) + np.mean(high)) / 2 < found[1]
    spread = np.sqrt(np.var(low, ddof=1) / 3 + np.var(high, ddof=1) / 200) / 2
    assert found[1] - found[0] == pytest.approx(2 * spread * stats.t.ppf(0.975, 2.04), rel=0.1)
    assert average_interval([low, high], [0.0, 1.0])[0] > 0.75
    assert average_interval([low, [0.5]]) is None


def test_percentiles_hold_the_middle():
    assert percentiles(list(range(101)), 0.9) == pytest.approx((5, 95))


def test_scores_that_are_all_alike_have_an_interval_with_width():
    low, high = average_interval([[0.0] * 10, [0.0] * 10])
    assert (low, high) == wilson(0, 20)
    low, high = confidence_interval([0.5] * 8)
    assert 0 < low < 0.5 < high < 1


def test_texts_that_are_all_right_are_as_many_as_they_are():
    right = confidence_interval([1.0] * 30, clusters=np.arange(3).repeat(10).tolist())
    assert right == wilson(3, 3), "ten questions on a text may all be right for the same reason"
    assert average_interval([[0.0] * 6, [0.0] * 6], clusters=[list("aabbcc"), list("ddeeff")]) == wilson(0, 6)


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("n", [5, 20])
def test_drawn_means_lie_as_far_apart_as_the_interval_says(kind, n):
    draw, truth = DRAWS[kind]
    rng = np.random.default_rng(n)
    held = []
    for seed in range(600):
        low, high = percentiles(drawn_means([draw(rng, n).tolist()], seed=seed, draws=500)[0])
        held.append(low <= truth <= high)
    assert 0.91 < np.mean(held) < 0.985, "means that are resampled hold 84 % at 5 samples"


def test_drawn_means_know_what_samples_share():
    rng = np.random.default_rng(4)
    held = {True: 0, False: 0}
    names = np.arange(20).repeat(10).tolist()
    for seed in range(300):
        shared = rng.normal(0, np.sqrt(0.2), 20).repeat(10)
        scores = np.clip(0.5 + 0.1 * (shared + rng.normal(0, np.sqrt(0.8), 200)), 0, 1).tolist()
        for clusters in held:
            [made] = drawn_means([scores], [names] if clusters else None, seed, draws=500)
            low, high = percentiles(made)
            held[clusters] += low <= 0.5 <= high
    assert 0.92 < held[True] / 300 < 0.985 and held[False] / 300 < 0.85


def test_strata_on_the_same_texts_are_drawn_together():
    rng = np.random.default_rng(5)
    one = rng.random(40)
    other = np.clip(one + rng.normal(0, 0.05, 40), 0, 1)
    together = drawn_means([one.tolist(), other.tolist()], [list(range(40))] * 2)
    apart = drawn_means([one.tolist(), other.tolist()])
    assert np.corrcoef(together)[0, 1] > 0.9 and abs(np.corrcoef(apart)[0, 1]) < 0.05
    assert drawn_means([[3.0, 5.0, 4.0, 4.0]]).mean() == pytest.approx(4, abs=0.1), "of any unit"
