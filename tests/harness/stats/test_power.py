"""Power: what is promised is what simulated comparisons show."""

import numpy as np
import pytest

from harness.stats.paired import mcnemar, sign_flips
from harness.stats.power import detectable_difference, samples_needed


def test_so_many_samples_show_the_difference_four_times_in_five():
    rng = np.random.default_rng(0)
    seen = rng.normal(0, 0.3, 400)
    n = samples_needed([seen.tolist()], 0.2)
    shown = [sign_flips(rng.normal(0.2, 0.3, n).tolist(), 500).p < 0.05 for _ in range(300)]
    assert 0.7 < np.mean(shown) < 0.9


def test_right_and_wrong_have_the_spread_that_the_difference_brings():
    rng = np.random.default_rng(1)
    n = samples_needed([[0.0] * 12], 0.2, binary=True)  # nothing seen to differ yet
    assert n == 37
    shown = [mcnemar([0.0] * n, (rng.random(n) < 0.2).astype(float).tolist()) < 0.05 for _ in range(500)]
    assert 0.7 < np.mean(shown) < 0.9


def test_both_ways_agree():
    rng = np.random.default_rng(2)
    strata = [rng.normal(0, 0.2, 30).tolist(), rng.normal(0.3, 0.4, 50).tolist()]
    for binary in (False, True):
        effect = detectable_difference(strata, [0.3, 0.7], binary=binary, alpha=0.01)
        assert samples_needed(strata, effect, [0.3, 0.7], binary=binary, alpha=0.01) == pytest.approx(
            80, abs=1
        )


def test_of_too_little_nothing_is_promised():
    assert samples_needed([[0.5]], 0.2) is None and samples_needed([], 0.2) is None
    assert detectable_difference([[0.1, 0.2, 0.1]]) is None
    assert samples_needed([[0.5, 0.5]], 0.2, alpha=0.05) == 6  # fewer cannot be significant


def test_questions_on_one_context_need_more_of_them():
    rng = np.random.default_rng(3)

    def drawn(contexts, effect):
        shared = rng.normal(0, 0.3 * np.sqrt(0.4), contexts).repeat(5)
        return effect + shared + rng.normal(0, 0.3 * np.sqrt(0.6), 5 * contexts)

    seen, names = drawn(200, 0), np.arange(200).repeat(5).tolist()
    n = samples_needed([seen.tolist()], 0.1, clusters=[names])
    alone = samples_needed([seen.tolist()], 0.1)
    assert 2 < n / alone < 3.5, "1 + 4 x 0.4"
    contexts = round(n / 5)
    shown = [
        sign_flips(drawn(contexts, 0.1).reshape(contexts, 5).sum(axis=1).tolist(), 500).p < 0.05
        for _ in range(300)
    ]
    assert 0.72 < np.mean(shown) < 0.9
    effect = detectable_difference([seen.tolist()], clusters=[names])
    assert samples_needed([seen.tolist()], effect, clusters=[names]) == pytest.approx(1000, abs=2)


def test_few_contexts_can_show_nothing_however_many_questions():
    names = np.arange(5).repeat(20).tolist()
    differences = [[0.0, 0.1] * 50]
    assert detectable_difference(differences) is not None
    assert detectable_difference(differences, clusters=[names]) is None, "five contexts: p is 0.06 at best"
    assert samples_needed(differences, 0.2, clusters=[names]) >= 6 * 20, "six contexts at least"
    # Nothing differs yet: ten questions on a text may come out as one.
    texts = np.arange(12).repeat(10).tolist()
    assert samples_needed([[0.0] * 120], 0.2, binary=True, clusters=[texts]) == pytest.approx(
        10 * 36.8, abs=1
    )
