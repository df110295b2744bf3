"""What fits a window under which ratio."""

import pytest

from harness.plugins.beacon.ratios import RATIOS, capacity, parse_ratio, smallest_ratio, usable


@pytest.mark.parametrize(
    ("ratio", "tokens"),
    [(0, 4096), (2, 7168), (4, 13312), (8, 25600), (16, 50176), (32, 99328), (64, 197632), (128, 394240)],
)
def test_the_paper_s_capacities(ratio, tokens):
    """Activation Beacon's published figures for a window of 4,096 and intervals of 1,024."""
    assert capacity(ratio, 4096, 1024) == tokens


def test_adapt_takes_the_lowest_ratio_that_fits():
    choose = [smallest_ratio(n, 4096, 1024, usable(1024)) for n in (4096, 4097, 7168, 7169, 16524)]
    assert choose == [0, 2, 2, 4, 8]  # LongBench's 15,500 tokens and 1,024 for the answer: 8


def test_nothing_fits_gives_the_highest():
    assert smallest_ratio(10**9, 4096, 1024, usable(1024)) == 1024


def test_a_list_of_ratios():
    assert capacity([0, 2], 4096, 1024) == 1024 * (1 + 4 + 1)  # 1,024 raw, then 512 each of the 2,048 left
    assert capacity([0, 0, 0], 4096, 1024) == 4096
    assert capacity([8, 0], 2048, 1024) == 2048  # one condensed, the next raw one no longer fits


def test_capacity_in_whole_intervals():
    assert capacity(2, 3000, 1024) == 3 * 1024 + 1024  # 1,976 entries hold three times 512


def test_names():
    assert [parse_ratio(t) for t in ("raw", "0", "1", " 8 ", "1024")] == [0, 0, 1, 8, 1024]
    for bad in ("3", "-2", "2048", "", "two", "1.5"):
        with pytest.raises(ValueError, match="is no ratio"):
            parse_ratio(bad)


def test_usable_ratios_divide_the_interval():
    assert usable(1024) == tuple(r for r in RATIOS if r != 1)
    assert usable(48) == (0, 2, 4, 8, 16)
