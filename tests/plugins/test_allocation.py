"""From relevance to ratios, held against the thesis's worked example and against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import UsageError
from harness.plugins.beacon.ratios import RATIOS, entries
from harness.plugins.two_pass.allocation import (
    allocate,
    allocate_top,
    filled_targets,
    positive_scores,
    smooth_z_scores,
    targets,
    z_scores,
)

# The thesis's example, section 3.2: seven intervals of 1,024 tokens, window 4,096.
ATTENTION = (0.2178, 0.1436, 0.2178, 0.0757, 0.1079, 0.1299, 0.1118)
MEAN = (0.2002, 0.0913, 0.0967, 0.1152, 0.1289, 0.1562, 0.2119)
STD = (0.0786, 0.0271, 0.0280, 0.0354, 0.0396, 0.0432, 0.0742)
PAPERS = (0, 2, 4, 8, 16, 32, 64, 128)


def test_the_thesis_example_scores():
    scores = positive_scores(z_scores(ATTENTION, MEAN, STD))
    # The thesis prints its scores after rounding inputs to four digits; its own last digits differ by that.
    np.testing.assert_allclose(scores, (1.1641, 3.8125, 8.0, 0.4609, 0.6914, 0.6562, 0.3926), rtol=0.015)


def test_the_thesis_example_targets():
    wanted = targets((1.1641, 3.8125, 8.0000, 0.4609, 0.6914, 0.6562, 0.3926), alpha=1, budget=3072)
    assert [round(w) for w in wanted] == pytest.approx([235, 772, 1616, 93, 140, 133, 79], abs=3)


def test_the_thesis_example_ratios():
    scores = positive_scores(z_scores(ATTENTION, MEAN, STD))
    assert allocate(scores.tolist(), 1.0, 3072, 1024, PAPERS) == [4, 0, 0, 16, 8, 8, 16]


def test_scores_are_clamped_and_a_lone_interval_is_neutral():
    z = z_scores([0.9, 0.1], [0.5, 0.5], [0.01, 0.01])
    assert z.tolist() == pytest.approx([40.0, -40.0])
    assert positive_scores(z).tolist() == [8.0, 0.125]
    assert z_scores([1.0], [1.0], [0.0]).tolist() == [0.0]


scores_of = st.lists(st.floats(0.125, 8.0), min_size=1, max_size=40)


@given(scores_of, st.floats(0.1, 20), st.integers(0, 7168))
def test_never_over_budget(scores, alpha, budget):
    try:
        ratios = allocate(scores, alpha, budget, 1024, PAPERS)
    except UsageError:
        assert len(scores) * entries(128, 1024) > budget
        return
    assert len(ratios) == len(scores) and set(ratios) <= set(PAPERS)
    assert sum(entries(r, 1024) for r in ratios) <= budget


@given(scores_of, st.floats(0.1, 20))
def test_more_relevant_never_gets_less(scores, alpha):
    ratios = allocate(scores, alpha, 7168, 1024, PAPERS)
    kept = [entries(r, 1024) for r in ratios]
    for a, x in zip(scores, kept):
        for b, y in zip(scores, kept):
            # Giving way to the budget moves an interval by one step at most beyond its neighbour in score.
            assert a <= b * 1.0001 or x * 2 >= y


def test_each_target_goes_to_the_nearest_number_of_beacons():
    equal = allocate([1.0] * 12, 3.0, 3072, 1024, PAPERS)  # 256 each, exactly
    assert equal == [4] * 12


def test_relevant_intervals_can_stay_raw():
    assert allocate([8.0, 0.125, 0.125], 3.0, 3072, 1024, PAPERS) == [0, 128, 128]


def test_too_many_intervals_say_so():
    with pytest.raises(UsageError, match="at least 800 entries, 700 are free"):
        allocate([1.0] * 100, 1.0, 700, 1024, PAPERS)


def test_top_k_as_in_table_4_4():
    relevance = list(range(15))
    ratios = allocate_top(relevance, 5, 2, 3072, 1024, PAPERS)
    assert (
        ratios[10:] == [2] * 5
    )  # 5 x 512 entries; 512 left for ten intervals: 32 entries each fit, 64 do not
    assert ratios[:10] == [32] * 10


def test_top_k_keeps_as_many_as_fit():
    ratios = allocate_top([5.0, 4.0, 3.0, 2.0], 4, 0, 2048, 1024, PAPERS)
    assert ratios == [0, 64, 64, 64] or ratios.count(0) == 1
    assert sum(entries(r, 1024) for r in ratios) <= 2048


@given(scores_of, st.integers(1, 10), st.sampled_from(RATIOS), st.integers(400, 7168))
def test_top_k_never_over_budget(relevance, k, ratio, budget):
    chosen = allocate_top(relevance, k, ratio, budget, 1024, RATIOS)
    assert sum(entries(r, 1024) for r in chosen) <= budget
    lightest = min(range(len(relevance)), key=lambda i: (-relevance[i], i))
    assert all(entries(chosen[lightest], 1024) >= entries(r, 1024) for r in chosen)


# --- standardised by a smoothed calibration


def natural(count, contexts, rng):
    """Shares of attention over intervals of no interest: high at both ends, every context another."""
    curve = 1 + 2 * np.abs(np.linspace(-1, 1, count)) ** 2
    drawn = curve * np.exp(0.3 * rng.standard_normal((contexts, count)))
    return drawn / drawn.sum(1, keepdims=True)


def test_attention_as_the_calibration_expects_is_of_no_interest():
    mean = np.full(12, 1 / 12)
    z = smooth_z_scores(mean, mean, np.full(12, 0.01))
    assert np.abs(z).max() < 0.1, "but for the difference between a mean and a median"
    twice = smooth_z_scores([1 / 12] * 5 + [2 / 12] + [1 / 12] * 6, mean, np.full(12, 0.01))
    assert twice.argmax() == 5 and twice[5] == pytest.approx(np.log(2) / 0.12, rel=0.05)


def test_a_lone_interval_is_neutral_and_nothing_is_infinite():
    assert smooth_z_scores([1.0], [1.0], [0.0]).tolist() == [0.0]
    assert np.isfinite(smooth_z_scores([0.0, 1.0], [0.5, 0.5], [0.1, 0.1])).all()


def test_the_first_interval_is_compared_with_itself_alone():
    mean = np.array([0.6, *[0.4 / 11] * 11])
    z = smooth_z_scores(mean, mean, 0.1 * mean)
    assert np.abs(z).max() < 0.1


def test_a_few_contexts_are_enough_to_find_what_stands_out():
    """Three times the natural attention is found better under a calibration of three contexts than by the thesis."""
    rng = np.random.default_rng(0)
    found = {"thesis": 0, "smooth": 0}
    for _ in range(200):
        contexts, text = natural(16, 3, rng), natural(16, 1, rng)[0]
        place = int(rng.integers(1, 16))
        text[place] *= 3
        text /= text.sum()
        moments = contexts.mean(0), contexts.std(0)
        found["thesis"] += int(z_scores(text, *moments).argmax() == place)
        found["smooth"] += int(smooth_z_scores(text, *moments).argmax() == place)
    assert found["smooth"] > 170 > 150 > found["thesis"], found


# --- what an interval cannot use goes to the others


def test_filled_targets_use_the_budget_and_keep_the_order():
    scores = [8.0, 4.0, 1.0, 1.0, 0.5]
    wanted = filled_targets(scores, 3.0, 600, 256)
    assert wanted[0] == wanted[1] == 256 and wanted.sum() == pytest.approx(600)
    assert wanted[2] == wanted[3] == pytest.approx(8 * wanted[4])
    assert targets(scores, 3.0, 600)[1] < 100, "the thesis's rule leaves the second with an eighth"
    assert allocate(scores, 3.0, 600, 256, PAPERS, fill=True)[1] == 0
    assert allocate(scores, 3.0, 600, 256, PAPERS)[1] == 4


def test_a_budget_for_everything_keeps_everything_raw():
    assert allocate([8.0, 0.2, 1.0], 3.0, 3 * 256, 256, PAPERS, fill=True) == [0, 0, 0]


@given(scores_of, st.floats(0.1, 20), st.integers(400, 7168))
def test_filled_is_never_over_budget_and_within_an_interval(scores, alpha, budget):
    wanted = filled_targets(scores, alpha, budget, 1024)
    assert wanted.max() <= 1024 and wanted.sum() <= budget + 1e-6
    ratios = allocate(scores, alpha, budget, 1024, PAPERS, fill=True)
    assert sum(entries(r, 1024) for r in ratios) <= budget
