"""The headline: who is better, by how much, how sure, at what cost; never more than the comparison says."""

import pytest

from harness.comparison import compare_all, headline
from harness.comparison.headline import MOST
from harness.results.loading import load_runs

from ...helpers.records_made import make_run


def made(tmp_path, **scores):
    paths = [make_run(tmp_path, tasks, method=method) for method, tasks in scores.items()]
    return headline(load_runs(paths))


def test_better_worse_and_what_cannot_be_told(tmp_path):
    half = [1.0, 0.0] * 20
    found = made(
        tmp_path,
        plain={"passkey": half},
        good={"passkey": [1.0] * 40},
        poor={"passkey": [0.0] * 40},
        same={"passkey": [0.0, 1.0, *half[2:]]},
    )
    [answer] = found.answers()
    assert answer.subject.startswith("passkey (baseline plain: 50.0; 5.1x compression, 1.0 MiB of KV, 1.2 s")
    assert [told for told, _ in answer.lines] == ["better", "cannot be told", "worse"]
    better, same, worse = (text for _, text in answer.lines)
    assert "good is better than plain by 50.0 points [" in better and "n = 40, p < 0.001" in better
    assert "same cannot be told from plain: 0.0 points [" in same and "20 points is ruled out" in same
    assert "poor is worse than plain by 50.0 points [" in worse and "−" not in worse
    assert all("5.1x compression, 1.0 MiB of KV" in text for _, text in answer.lines)


def test_too_few_samples_say_how_many_would_do(tmp_path):
    found = made(tmp_path, plain={"passkey": [0.0, 0.5, 0.5]}, other={"passkey": [0.5, 0.5, 1.0]})
    [finding] = found.findings
    assert finding.told == "cannot be told" and finding.row.samples_needed > 3
    assert f"n = 3; {finding.row.samples_needed} samples would tell a difference of 20 points" in finding.text


@pytest.mark.parametrize("shift", [-0.3, -0.05, 0.0, 0.05, 0.3])
def test_words_and_interval_agree(tmp_path, shift):
    plain = [0.45 + 0.01 * (i % 17) for i in range(40)]
    other = [s + shift + 0.02 * ((i * 7) % 11 - 5) for i, s in enumerate(plain)]
    [finding] = made(tmp_path, plain={"passkey": plain}, other={"passkey": other}).findings
    low, high = finding.row.interval
    assert (finding.told == "cannot be told") == (low <= 0 <= high)
    assert (finding.told == "better") == (low > 0 or (low == 0 and finding.row.verdict == "better"))


def test_a_single_run_says_what_it_scored(tmp_path):
    [answer] = made(tmp_path, plain={"passkey": [1.0, 0.0, 1.0, 1.0]}).answers()
    assert answer.lines[0][1].startswith("plain scores 75.0 [") and "n = 4; 5.1x" in answer.lines[0][1]


def test_of_many_runs_the_best_are_named_and_the_rest_counted(tmp_path):
    names = [f"m{i}" for i in range(12)]
    scores = {name: {"passkey": [min(1.0, 0.2 + 0.05 * i)] * 30} for i, name in enumerate(names)}
    [answer] = made(tmp_path, **scores).answers()
    assert len(answer.lines) == MOST + 1 and "m11 is better" in answer.lines[0][1]
    assert "7 more runs: 7 better" in answer.lines[-1][1]


def test_runs_without_common_samples_are_named(tmp_path):
    found = made(tmp_path, plain={"passkey": [1.0] * 5}, other={"niah": [1.0] * 5})
    assert "no task in common" in found.left_out[0] and found.answers()[0].lines[0][1].startswith(
        "plain scores"
    )
    runs = load_runs([make_run(tmp_path / "x", {"passkey": [1.0] * 5}, method=m) for m in ("plain", "b")])
    assert headline(runs, compare_all(runs[0], runs[1:])).findings == headline(runs).findings
