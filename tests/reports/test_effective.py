"""`effective`: base, effective length and loss from scores by length, by hand and from runs."""

import pytest

from harness import registry
from harness.reports.effective import effective
from harness.results.loading import load_runs
from harness.results.merging import merged
from harness.stats import confidence_interval

from ..helpers import making


def scores(share, n=20):
    return [1.0] * round(share * n) + [0.0] * (n - round(share * n))


def test_base_length_and_loss_by_hand():
    found = effective({256.0: scores(0.8), 1024.0: scores(1.0), 4096.0: scores(0.9), 8192.0: scores(0.5)})
    assert (found.base, found.length) == (1.0, 4096)
    assert found.loss == pytest.approx(((0.9 - 1) + (0.5 - 1)) / 2)
    assert found.base_interval[0] < 1.0
    assert found.length_interval[0] <= 4096 <= found.length_interval[1] and found.tested[-1] == 8192


def test_the_largest_length_counts_even_where_one_between_falls_short():
    assert effective({512.0: scores(1.0), 2048.0: scores(0.5), 4096.0: scores(0.9)}).length == 4096


def test_without_a_short_length_the_shortest_is_the_base():
    found = effective({2000.0: scores(0.5), 4000.0: scores(0.5)})
    assert (found.base, found.length, found.loss) == (0.5, 4000, 0)


def test_nothing_right_has_no_length_and_no_loss():
    found = effective({500.0: scores(0.0), 4000.0: scores(0.0)})
    assert (found.base, found.length, found.loss, found.loss_interval) == (0, 0, None, None)
    assert found.base_interval[1] > 0


def test_all_right_is_not_known_for_sure():
    low, high = effective({500.0: [1.0] * 5, 4000.0: [1.0] * 5}).base_interval
    assert low < 0.95 and high <= 1.0
    few = effective({500.0: [0.5, 0.7, 0.6], 4000.0: [0.5, 0.7, 0.6]}).base_interval
    assert 0.3 < few[0] < 0.45 and 0.75 < few[1] < 0.9, "three samples do not hold the mean between them"


@pytest.mark.parametrize("means", [(0, 0), (0, 1), (1, 0), (0.5, 0), (1, 1), (0.2, 0.6)])
@pytest.mark.parametrize("lengths", [(500.0, 4000.0), (500.0, 900.0), (4000.0, 8000.0)])
def test_an_interval_holds_its_value(means, lengths):
    found = effective({n: [float(i < 10 * m) for i in range(10)] for n, m in zip(lengths, means)})
    for value, (low, high) in (
        (found.base, found.base_interval),
        (found.length, found.length_interval),
        *([(found.loss, found.loss_interval)] if found.loss is not None else []),
    ):
        assert low <= value <= high


def test_the_base_of_one_length_has_the_interval_of_that_length():
    """As `lengths` and a table of scores show it."""
    right = [1.0] * 6 + [0.0] * 4
    found = effective({500.0: right, 4000.0: [0.0] * 10})
    assert found.base_interval == confidence_interval(right)


def test_one_sample_a_length_has_no_interval():
    assert effective({500.0: [1.0], 4000.0: [1.0]}).length_interval is None


def build(*paths):
    cls = registry.report("effective").cls
    return cls(cls.Options()).build(merged(load_runs(paths)))


def records(best):
    return [
        making.record(
            "passkey",
            f"{length}-{i}",
            {"accuracy": float(i < best[length]), "fuzzy": 1.0},
            metadata={"length": length, "depth": 0},
        )
        for length in best
        for i in range(10)
    ]


def test_runs_stand_side_by_side(tmp_path):
    plain = making.write_run(tmp_path, "plain", records({512: 10, 4096: 2, 8192: 0}))
    beacon = making.write_run(tmp_path, "beacon", records({512: 9, 4096: 9, 8192: 8}))
    [table] = build(plain, beacon).tables
    found = {row.cells["run"].value: row.cells for row in table.rows}
    assert found["plain"]["length"].value == 512 and found["beacon"]["length"].value == 8192
    assert found["plain"]["base"].value == 100 and found["beacon"]["tested"].value == "512, 4,096, 8,192"
    assert found["beacon"]["loss"].interval[0] <= found["beacon"]["loss"].value


def test_questions_on_one_context_widen_what_they_say(tmp_path):
    plain = [{**r, "text_hash": None} for r in records({512: 5, 4096: 5})]
    shared = [{**r, "text_hash": f"{r['metadata']['length']}-{i % 10 // 5}"} for i, r in enumerate(plain)]
    apart, together = (
        build(making.write_run(tmp_path / name, "plain", rows)).tables[0]
        for name, rows in (("apart", plain), ("together", shared))
    )
    one, other = (t.rows[0].cells["base"].interval for t in (apart, together))
    assert other[1] - other[0] > 1.5 * (one[1] - one[0]), "two texts, one all right and one all wrong"
    assert any("plain (passkey: 20 on 4) contexts" in note for note in together.footers)
    assert not any("contexts" in note for note in apart.footers)


def test_a_length_that_failed_is_named_and_counted(tmp_path):
    gone = [
        making.failed("passkey", f"gone-{i}") | {"metadata": {"length": 8192, "depth": 0}} for i in range(10)
    ]
    [table] = build(making.write_run(tmp_path, "plain", [*records({512: 10, 4096: 9}), *gone])).tables
    cell = table.rows[0].cells["length"]
    assert (cell.value, cell.n_ok, cell.n) == (4096, 20, 30)
    assert any("plain (passkey: 8,192)" in note for note in table.footers)


@pytest.mark.parametrize(("best", "left"), [({512: 10}, "512"), ({}, "–")])
def test_a_task_of_which_one_length_is_left_does_not_vanish(tmp_path, best, left):
    gone = [
        making.failed("passkey", f"gone-{n}-{i}") | {"metadata": {"length": n, "depth": 0}}
        for n in (4096, 8192)
        for i in range(10)
    ]
    [table] = build(making.write_run(tmp_path, "plain", [*records(best), *gone])).tables
    cells = table.rows[0].cells
    assert {cells[name].value for name in ("base", "length", "loss")} == {"failed"}
    assert cells["tested"].value == left and cells["base"].n == 20 + len(records(best))
    assert any("plain (passkey: 4,096, 8,192)" in note for note in table.footers)


def test_a_task_without_lengths_is_left_out(tmp_path):
    assert build(making.write_run(tmp_path, "plain", making.longbench(0.3))).tables == []
