"""``harness compare`` as it is typed: what stands in the table, what a program gets, when CI is stopped."""

import json

import numpy as np
import pytest

from harness.cli import invoke
from harness.results import recorded_baselines
from harness.results.loading import load_runs

from ...helpers.records_made import make_run

RNG = np.random.default_rng(5)
GOOD = (RNG.random(30) * 0.5 + 0.4).round(3)
BAD = (GOOD - 0.1 - RNG.random(30) * 0.1).round(3)


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Types a command in an empty folder; gives its status, what it printed, and its complaint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def type_(*words):
        status = invoke(["compare", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return type_


@pytest.fixture
def good(tmp_path):
    return make_run(tmp_path / "runs", {"passkey": GOOD.tolist(), "niah": [1.0, 0.0]}, method="good")


@pytest.fixture
def bad(tmp_path):
    return make_run(
        tmp_path / "runs", {"passkey": BAD.tolist(), "niah": [1.0, 0.0]}, method="bad", sees_question=True
    )


def test_the_table_says_what_can_be_told(typed, good, bad):
    status, out, _ = typed(good, bad)
    assert status == 0 and "bad against good" in out
    table = out.partition("Compared with")[2].splitlines()
    [passkey] = [line for line in table if line.startswith("passkey")]
    assert "worse" in passkey and passkey.split()[-2:] == ["0", "30"] and passkey.count("< 0.001") == 2
    [niah] = [line for line in table if line.startswith("niah")]
    assert "too few samples to tell" in niah
    assert "! only bad sees the question" in out and "Holm" not in out.partition("Compared with")[0]
    status, out, _ = typed(good, bad, "--all")
    assert status == 0 and "correction over 1 test;" in out
    status, out, _ = typed(good, good)
    assert status == 0 and "indistinguishable" in out


def test_a_run_that_shares_nothing_does_not_hide_the_others_but_stops_a_gate(typed, good, bad, tmp_path):
    stray = make_run(tmp_path / "runs", {"longbench/trec": {"x": 1.0}}, method="stray")
    status, out, _ = typed(good, bad, stray)
    assert status == 0 and out.count(" against ") == 1 and "not compared: " in out and "stray" in out
    status, out, _ = typed(good, bad, stray, "--json")
    [reason] = json.loads(out)["not_compared"]
    assert status == 0 and "have no task in common" in reason
    for words in ((good, bad, stray, "--fail-if-worse", 50), (good, stray)):
        status, out, err = typed(*words)
        assert status == 2 and not out and "have no task in common" in err


def test_a_folder_of_runs_is_compared_with_one_of_them(typed, good, bad):
    status, out, _ = typed(good, good.parent)
    assert status == 0 and out.count(" against ") == 1
    status, _, err = typed(good.parent, bad)
    assert status == 2 and "holds 2 runs; name one as the baseline" in err
    name = load_runs([good])[0].hash
    assert typed(f"{good.parent}:{name[:5]}", bad)[0] == 0
    assert typed(f"{good.parent}:zz", bad)[0] == 2


def test_ci_is_stopped_by_what_is_significantly_worse(typed, good, bad):
    drop = 100 * float((GOOD - BAD).mean())
    for points, expected in ((1.0, 1), (drop - 0.1, 1), (drop + 0.1, 0)):
        status, out, err = typed(good, bad, "--fail-if-worse", points)
        assert (status, err) == (expected, "")
        assert ("bad is worse on passkey" in out) == bool(expected)
    assert typed(bad, good, "--fail-if-worse", 0)[0] == 0
    status, out, _ = typed(good, bad, "--fail-if-worse", 0, "--task", "niah")
    assert status == 0 and "at least 6 are needed: bad on niah (2)" in out
    assert typed(good, bad, "--fail-if-worse", -1)[0] == 2


def test_a_recorded_baseline_is_a_name(typed, good, bad, tmp_path):
    recorded_baselines.record("main", load_runs([good]), tmp_path / "recorded")
    assert typed("main", bad, "--fail-if-worse", 1)[0] == 1
    assert typed("recorded/main.json", good, "--fail-if-worse", 1)[0] == 0
    assert typed("main", bad, "--baselines", "elsewhere")[0] == 2
    status, _, err = typed("mian", bad)
    assert status == 2 and "did you mean 'main'?" in err
    recorded_baselines.record("two", load_runs([good, bad]), tmp_path / "recorded")
    assert "holds 2 runs" in typed("two", bad)[2]
    assert typed(f"two:{load_runs([good])[0].hash}", bad, "--fail-if-worse", 1)[0] == 1


def test_programs_get_everything(typed, good, bad):
    status, out, _ = typed(good, bad, "--json", "--fail-if-worse", 1, "--level", 0.9, "--resamples", 500)
    found = json.loads(out)
    [comparison] = found["comparisons"]
    assert status == 1 and found["failures"] == [
        {"run": "bad", "hash": comparison["run"]["hash"], "row": "passkey"}
    ]
    assert (comparison["level"], comparison["resamples"], comparison["tests"]) == (0.9, 500, 1)
    row = comparison["rows"][0]
    assert row["difference"] == pytest.approx(float((BAD - GOOD).mean())) and row["verdict"] == "worse"
    assert row["interval"][0] < row["difference"] < row["interval"][1] and row["p"] == row["p_permutation"]


def test_what_is_typed_wrongly_is_one_line(typed, good, bad):
    for words in (
        ("nothing", bad),
        (good, "nothing"),
        (good,),
        (good, bad, "--task", "longbench"),
        (good, bad, "--metric", "f1"),
    ):
        status, out, err = typed(*words)
        assert (status, out) == (2, "") and err.count("\n") == 1, words
