"""Paired tests held against SciPy's and against tables worked out by hand; honest under the null."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.bootstrap import BINS, MANY, grouped
from harness.stats.paired import (
    EXACT,
    contributions,
    difference_interval,
    holm,
    mcnemar,
    sign_flips,
    smallest_p,
    tarone,
)

FEW = [0.12, -0.3, 0.05, 0.4, 0.0, 0.22, -0.11, 0.31, 0.27, 0.02]
RNG = np.random.default_rng(7)
SOME = RNG.normal(0.06, 0.3, 60).round(3)
DIFFERENCES = st.lists(st.integers(-8, 8).map(lambda i: i / 8), min_size=1, max_size=60)


def scipys(values, **how):
    return stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="two-sided", **how
    ).pvalue


# --- the sign-flip test


@pytest.mark.parametrize("n", [2, 5, 8, 10])
def test_few_differences_are_tested_exactly_as_scipy_does(n):
    found = sign_flips(FEW[:n])
    assert found.exact and found.p == pytest.approx(scipys(FEW[:n], n_resamples=np.inf), abs=1e-12)


def test_many_are_tested_by_drawing_as_scipy_does():
    found = sign_flips(SOME, 20_000)
    assert (found.exact, found.flips) == (False, 20_000)
    assert found.p == pytest.approx(scipys(SOME, n_resamples=20_000, random_state=3), abs=0.01)


def test_a_drawn_p_is_never_0_and_says_how_many_were_drawn():
    found = sign_flips([0.5 + i / 100 for i in range(EXACT + 1)], 999)
    assert found.p == 1 / 1000 and found.flips == 999


def test_equal_sizes_drawn_together_are_the_binomial():
    values = [0.25] * 120 + [-0.25] * 90 + [0.0] * 50
    assert sign_flips(values, 50_000).p == pytest.approx(stats.binomtest(90, 210).pvalue, abs=0.006)


def test_zeros_change_nothing_and_all_zeros_prove_nothing():
    assert sign_flips(FEW) == sign_flips([*FEW, *[0.0] * 500])
    assert sign_flips([0.0] * 9).p == sign_flips([]).p == sign_flips([0.7]).p == 1.0


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES)
def test_p_is_a_probability_and_the_same_from_both_sides(values):
    found = sign_flips(values, 500)
    assert 0 < found.p <= 1
    assert found == sign_flips([-v for v in values], 500)
    assert found.p >= smallest_p(len(values)) - 1e-12


# --- McNemar


@pytest.mark.parametrize(("only_a", "only_b", "same"), [(1, 9, 20), (4, 4, 0), (0, 6, 3), (12, 30, 400)])
def test_mcnemar_is_the_binomial_test_of_those_that_changed(only_a, only_b, same):
    a = [1.0] * only_a + [0.0] * only_b + [1.0] * same
    b = [0.0] * only_a + [1.0] * only_b + [1.0] * same
    expected = stats.binomtest(only_b, only_a + only_b, 0.5).pvalue
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(expected, rel=1e-12)
    if only_a + only_b <= EXACT:  # it is the permutation test with every flip counted
        assert mcnemar(a, b) == pytest.approx(sign_flips(np.subtract(b, a)).p)


def test_mcnemar_is_for_right_and_wrong_only():
    assert mcnemar([0, 1, 0.5], [1, 1, 1]) is None and mcnemar([1, 0], [0.2, 1]) is None
    assert mcnemar([1, 0, 1], [1, 0, 1]) == 1.0


# --- the interval


def test_the_interval_is_scipys_paired_bootstrap():
    a = RNG.random(80)
    b = np.clip(a + RNG.normal(0.05, 0.2, 80), 0, 1)

    def difference(x, y, axis=-1):
        return np.mean(y, axis=axis) - np.mean(x, axis=axis)

    theirs = stats.bootstrap(
        (a, b), difference, paired=True, n_resamples=20_000, method="percentile", random_state=1
    ).confidence_interval
    assert difference_interval([b - a]) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_strata_count_by_their_weight():
    small, large = [0.5, 0.3, 0.4, 0.6], [0.0, -0.02, 0.02, 0.01, -0.01] * 40
    low, high = difference_interval([small, large])
    assert low < (0.45 + 0.0) / 2 < high and high - low < 0.12
    assert contributions([small, large]).sum() == pytest.approx(0.225)
    assert contributions([small, large], [0.2, 0.8]).sum() == pytest.approx(0.09)


@pytest.mark.parametrize("strata", [[], [[0.5]], [[0.1, 0.2], [0.3]], [[0.1, 0.3, 0.2, 0.5, 0.1]]])
def test_where_nothing_could_be_rejected_there_is_no_interval(strata):
    assert difference_interval(strata) is None


def test_samples_that_are_all_alike_do_not_prove_that_all_others_are():
    low, high = difference_interval([[0.0] * 30])
    assert -low == high == pytest.approx(1 - 0.05 ** (1 / 30)), (
        "an outcome that 30 samples miss once in 20 times"
    )
    low, high = difference_interval([[1.0] * 20])
    assert 0.7 < low < 0.9 and high == 1.0


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(-8, 8).map(lambda i: i / 8), min_size=6, max_size=12), st.sampled_from([0.9, 0.95])
)
def test_the_interval_holds_0_where_the_test_does_not_reject_it(values, level):
    found = difference_interval([values], level=level)
    if found is not None and len(set(values)) > 1:
        rejected = sign_flips(values).p < round(1 - level, 12)
        assert (found[0] > 1e-12 or found[1] < -1e-12) == rejected


def test_an_interval_of_few_samples_covers_as_often_as_it_says():
    rng = np.random.default_rng(11)
    for n in (6, 10):
        drawn = rng.beta(0.4, 0.8, (400, n)) - rng.beta(0.4, 0.8, (400, n))
        covered = [low <= 0 <= high for d in drawn for low, high in [difference_interval([d])]]
        assert np.mean(covered) > 0.92, n  # 95 % of 400, less what chance may take


def test_what_can_never_be_significant_is_no_test():
    assert tarone([2.0**-7] * 19, 0.05) == 0.05 / 7, "eight samples in nineteen rows: none can"
    assert tarone([2.0**-7] * 6, 0.05) > 2.0**-7 and tarone([], 0.05) == 0.05


@settings(max_examples=40, deadline=None)
@given(st.lists(DIFFERENCES, min_size=1, max_size=3))
def test_the_other_way_round_the_interval_is_mirrored(strata):
    found = difference_interval(strata, resamples=300)
    mirrored = difference_interval([[-v for v in s] for s in strata], resamples=300)
    if found is None:
        assert mirrored is None
    else:
        assert mirrored == pytest.approx((-found[1], -found[0]), abs=1e-12)


# --- Holm


def test_holm_by_hand():
    # 0.01 x 4; 0.02 x 3; 0.03 x 2 = 0.06, not below the one before; 0.04 x 1 raised to that.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.001, 0.5, 0.9]) == pytest.approx([0.003, 1.0, 1.0])
    assert holm([0.04]) == [0.04] and holm([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=30))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(ps):
    found = holm(ps)
    assert all(p <= q <= min(1, p * len(ps)) + 1e-12 for p, q in zip(ps, found))
    ranked = [found[i] for i in np.argsort(ps, kind="stable")]
    assert ranked == sorted(ranked)


# --- grouping, which makes many samples fast


def test_equal_values_are_put_together_in_the_order_they_come():
    values, counts = grouped(np.array([0.5, 0.0, 0.5, 1.0, 0.0, 0.5]))
    assert values.tolist() == [0.5, 0.0, 1.0] and counts.tolist() == [3, 2, 1]


def test_bins_keep_the_mean_and_nearly_all_of_the_variance():
    values = RNG.random(MANY + 1000) - 0.4
    found, counts = grouped(values)
    assert len(found) <= BINS + 1 and counts.sum() == len(values)
    mean = (found * counts).sum() / len(values)
    assert mean == pytest.approx(values.mean(), abs=1e-12)
    assert ((found - mean) ** 2 * counts).sum() / len(values) == pytest.approx(values.var(), rel=1e-3)
    opposite, same = grouped(-values)
    assert np.allclose(opposite, -found) and (same == counts).all()


@pytest.mark.parametrize(("contexts", "questions", "icc"), [(10, 10, 0.3), (15, 10, 0.2), (40, 5, 0.3)])
def test_whole_contexts_are_flipped(contexts, questions, icc):
    rng = np.random.default_rng(0)
    names = [np.arange(contexts).repeat(questions).tolist()]
    wrong, held, alone, n = 0, 0, 0, 200
    for _ in range(n):
        shared = rng.normal(0, np.sqrt(icc), (contexts, 1))
        differences = (shared + rng.normal(0, np.sqrt(1 - icc), (contexts, questions))).ravel() / 8
        parts = contributions([differences], clusters=names)
        assert len(parts) == contexts and parts.sum() == pytest.approx(differences.mean())
        p = sign_flips(parts, flips=1000).p
        wrong += p < 0.05
        low, high = difference_interval([differences], resamples=1000, clusters=names)
        held += low <= 0 <= high
        alone += sign_flips(differences, flips=1000).p < 0.05
    assert wrong / n < 0.09 and held / n > 0.91, "one in twenty"
    assert alone / n > 0.15, "taken as independent"


def test_two_contexts_can_show_nothing():
    assert difference_interval([[0.5, 0.6, 0.4, 0.7, 0.5, 0.6]], clusters=[list("aaabbb")]) is None
    # All questions on one: taken as independent samples of what there is to ask of it.
    whole = [[0.5, 0.6, 0.4, 0.7, 0.5, 0.6]]
    assert difference_interval(whole, clusters=[list("aaaaaa")]) == difference_interval(whole)


def test_fifty_thousand_samples_take_well_under_seconds():
    values = RNG.normal(0.001, 0.2, 50_000).clip(-1, 1)
    began = time.process_time()
    low, high = difference_interval([values])
    found = sign_flips(values)
    seconds = time.process_time() - began
    print(f"50,000 samples: {seconds:.2f} s")
    assert seconds < 3  # about half a second; the bound leaves room for slow machines
    normal = 2 * stats.norm.sf(abs(values.mean()) / (values.std() / len(values) ** 0.5))
    assert found.p == pytest.approx(normal, abs=0.02)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / len(values) ** 0.5, rel=0.04)


# --- under the null


def test_false_alarms_come_as_often_as_announced():
    """Binomial(800, 0.05) lies within 0.05 +- 0.024 in 99.8 % of the cases; the seed is fixed besides."""
    rng = np.random.default_rng(0)
    alarms, held = 0, 0
    for _ in range(800):
        shared = rng.random(40)
        a, b = (np.clip(shared + rng.normal(0, 0.2, 40), 0, 1) for _ in "ab")
        alarms += sign_flips(b - a, 400, seed=int(rng.integers(1 << 30))).p <= 0.05
        low, high = difference_interval([b - a], resamples=400, seed=int(rng.integers(1 << 30)))
        held += low <= 0 <= high
    assert 0.026 <= alarms / 800 <= 0.074
    assert 0.91 <= held / 800 <= 0.98  # a percentile bootstrap of 40 is a little narrow


def test_mcnemar_never_alarms_more_often_than_announced():
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(800):
        hard = rng.random(60)
        a, b = ((rng.random(60) < hard).astype(float) for _ in "ab")
        alarms += mcnemar(a, b) <= 0.05
    assert 0.005 <= alarms / 800 <= 0.066
