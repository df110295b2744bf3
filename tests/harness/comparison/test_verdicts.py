"""Comparisons: paired on what both were asked and finished, corrected, and silent where nothing can be told."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import UsageError
from harness.comparison.averages import average_weights
from harness.comparison.gate import gate
from harness.comparison.verdicts import compare, compare_many
from harness.contracts.record import Truncation
from harness.results.labels import labelled
from harness.results.loading import load_runs
from harness.stats.paired import difference_interval, holm, mcnemar, sign_flips
from harness.tasks.longbench import LongBench

from ...helpers.records_made import make_run

RNG = np.random.default_rng(5)
BASE = RNG.random(40).round(3)
BETTER = (BASE + 0.1 + RNG.normal(0, 0.05, 40)).clip(0, 1).round(3)


def pair(tmp_path, a, b, first=None, second=None):
    paths = make_run(tmp_path / "a", a, **(first or {})), make_run(tmp_path / "b", b, **(second or {}))
    return load_runs(paths)


def task(scores, name="passkey"):
    return {name: list(scores)}


# --- one task


def test_a_run_that_is_better_throughout_is_better(tmp_path):
    a, b = pair(tmp_path, task(BASE), task(BETTER), second={"method": "new"})
    found = compare(a, b)
    [row] = found.rows
    d = BETTER - BASE
    assert (row.name, row.n, row.verdict, found.tests) == ("passkey", 40, "better", 1)
    assert (row.mean_a, row.mean_b) == pytest.approx((BASE.mean(), BETTER.mean()))
    assert row.difference == pytest.approx(d.mean())
    assert row.interval == pytest.approx(difference_interval([d]), abs=0.003)
    assert (row.p, row.exact, row.flips) == (sign_flips(d / 40).p, False, 10_000) and row.p_mcnemar is None
    assert (row.wins, row.losses) == ((d > 0).sum(), (d < 0).sum())
    assert found.caveats == ()
    [other] = compare(b, a).rows
    assert other.verdict == "worse" and other.p == row.p
    assert other.interval == pytest.approx((-row.interval[1], -row.interval[0]))


def test_a_run_is_indistinguishable_from_itself(tmp_path):
    a, b = pair(tmp_path, task(BASE), task(BASE))
    [row] = compare(a, b).rows
    assert (row.verdict, row.p, row.p_adjusted, row.difference) == ("indistinguishable", 1, 1, 0)
    assert row.interval[0] < 0 < row.interval[1], "forty samples that are alike do not prove that all are"


def test_right_and_wrong_are_tested_by_mcnemar(tmp_path):
    x, y = [1.0] * 4 + [0.0] * 16, [1.0] * 4 + [1.0] * 9 + [0.0] * 7
    a, b = pair(tmp_path, task(x), task(y), second={"method": "new"})
    [row] = compare(a, b).rows
    assert row.p == row.p_mcnemar == mcnemar(x, y) == pytest.approx(row.p_permutation)
    assert row.verdict == "better"


@pytest.mark.parametrize(("n", "verdict"), [(5, "too few samples to tell"), (6, "better")])
def test_too_few_samples_are_said_to_be_too_few(tmp_path, n, verdict):
    a, b = pair(tmp_path, task([0.0] * n), task([0.2] * n), second={"method": "new"})
    found = compare(a, b)
    assert found.rows[0].verdict == verdict
    assert (found.rows[0].p_adjusted is None) == (n == 5) and found.tests == (n == 6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(*[st.integers(0, 4).map(lambda i: i / 4)] * 2), min_size=1, max_size=30))
def test_swapping_the_runs_mirrors_everything(tmp_path_factory, rows):
    x, y = zip(*rows)
    a, b = pair(tmp_path_factory.mktemp("runs"), task(x), task(y), second={"method": "new"})
    [there], [back] = (compare(*runs, resamples=300).rows for runs in ((a, b), (b, a)))
    assert there.p == back.p and there.difference == pytest.approx(-back.difference)
    assert (there.wins, there.losses) == (back.losses, back.wins)
    mirrored = {"better": "worse", "worse": "better"}
    assert back.verdict == mirrored.get(there.verdict, there.verdict)
    if there.interval is not None:
        assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]), abs=1e-12)


# --- what is compared


def test_only_what_both_finished_is_compared(tmp_path):
    a, b = pair(
        tmp_path,
        {"passkey": {"a": 1.0, "b": 0.5, "c": 0.0}},
        {"passkey": {"b": 1.0, "c": 0.0, "e": 1.0}},
        {"failed": {"passkey": ["e"]}},
        {"failed": {"passkey": ["a"]}, "planned": {"passkey": 9}, "method": "new"},
    )
    found = compare(a, b)
    [row] = found.rows
    assert (row.n, row.finished_a, row.planned_a, row.finished_b, row.planned_b) == (2, 3, 4, 3, 9)
    assert (row.mean_a, row.mean_b, row.whole) == (0.25, 0.5, False)
    said = "\n".join(found.caveats)
    assert "plain did not finish all it was asked: passkey 3 of 4" in said
    assert "new did not finish all it was asked: passkey 3 of 9" in said
    assert "asked different numbers of samples, compared on those in both: passkey 4 and 9" in said


def test_samples_that_asked_something_else_are_left_out_and_counted(tmp_path):
    a, b = pair(tmp_path, task([1.0, 0.0]), task([1.0, 1.0]), second={"method": "new"})
    other = dataclasses.replace(b.records["passkey", "s1"], references=("another answer",))
    records = {**b.records, other.key: other}
    found = compare(a, dataclasses.replace(b, records=records))
    assert (found.rows[0].n, found.rows[0].other_question) == (1, 1)
    assert "samples left out, for they are not the same question in both runs: passkey 1" in found.caveats


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt_hash": "0" * 16},
        {"truncation": Truncation("middle", 1000, 501, 501, False)},
    ],
)
def test_another_text_with_the_same_answer_is_another_question(tmp_path, changed):
    a, b = pair(tmp_path, task([1.0, 0.0]), task([1.0, 1.0]), second={"method": "new"})
    records = {
        k: dataclasses.replace(r, **{"prompt_hash": "1" * 16, **changed}) for k, r in b.records.items()
    }
    with pytest.raises(UsageError, match="were not asked the same: all 2 samples"):
        compare(a, dataclasses.replace(b, records=records))


@pytest.mark.parametrize(
    ("other", "note"),
    [
        ({"limit": 300}, None),
        ({"chat": "none"}, "chat differs: template and none"),
        ({"tokenizer": "u", "tokens": 520, "model": "large"}, "model differs: tiny and large"),
    ],
)
def test_prompts_may_be_cut_or_rendered_otherwise_which_is_said(tmp_path, other, note):
    a, b = pair(tmp_path, task([1.0, 0.0]), task([1.0, 1.0]), second=other)
    found = compare(a, b)
    assert (found.rows[0].n, found.rows[0].other_prompt) == (2, 2)
    assert "prompts that were cut or rendered differently in the two runs: passkey 2" in found.caveats
    assert note is None or note in found.caveats


def test_caveats_name_what_differs(tmp_path):
    a, b = pair(
        tmp_path,
        task(BASE),
        task(BASE),
        {"task_options": {"passkey": {"trials": 1}}},
        {
            "method": "seeing",
            "sees_question": True,
            "facts": {"warning": "weights are untrained"},
            "truncate": "left",
            "max_context": 900,
            "task_options": {"passkey": {"trials": 2}},
        },
    )
    found = compare(a, b)
    assert found.caveats == (
        "only seeing sees the question while it compresses",
        "seeing: weights are untrained",
        "truncate differs: middle and left",
        "max context differs: not set and 900",
        "passkey: its options differ (trials)",
    )


def test_what_cannot_be_compared_is_one_line(tmp_path):
    a, b = pair(tmp_path, task([1.0]), task([1.0], "niah"))
    with pytest.raises(UsageError, match="have no task in common: the first has passkey, the second niah"):
        compare(a, b)
    a, b = pair(tmp_path, {"passkey": {"a": 1.0}}, {"passkey": {"b": 1.0}}, second={"seed": 1})
    with pytest.raises(UsageError, match="finished no sample in common"):
        compare(a, b)
    with pytest.raises(UsageError, match="no task in common among niah"):
        compare(a, b, tasks=["niah"])
    a, b = pair(
        tmp_path, task([1.0]), task([1.0]), second={"status": "failed", "extra": {"error": "it lied"}}
    )
    with pytest.raises(UsageError, match=r"marked as failed \(it lied\): its numbers are not to be believed"):
        compare(a, b)


def test_another_metric_can_be_asked_for(tmp_path):
    x = [{"score": 0.0, "fuzzy": 0.1 * i} for i in range(8)]
    y = [{"score": 0.0, "fuzzy": 0.1 * i + 0.2} for i in range(8)]
    a, b = pair(tmp_path, task(x), task(y), second={"method": "new"})
    assert compare(a, b).rows[0].difference == 0
    [row] = compare(a, b, metric="fuzzy").rows
    assert (row.metric, row.verdict) == ("fuzzy", "better") and row.difference == pytest.approx(0.2)
    with pytest.raises(UsageError, match="task passkey has no score 'f1'; it has score, fuzzy"):
        compare(a, b, metric="f1")


# --- averages of families


def longbench(shift, sets=LongBench.group):
    rng = np.random.default_rng(1)
    return {
        f"longbench/{name}": (rng.random(4 + i % 3) * 0.5 + shift).tolist() for i, name in enumerate(sets)
    }


def test_a_family_is_averaged_as_its_task_says(tmp_path):
    table = longbench(0.0)
    shifted = {t: [s + (0.3 if i % 2 else -0.1) for i, s in enumerate(v)] for t, v in longbench(0.1).items()}
    a, b = pair(tmp_path, table, shifted, second={"method": "new"})
    found = compare(a, b)
    rows = {r.name: r for r in found.rows}
    means = [{t.partition("/")[2]: float(np.mean(v)) for t, v in side.items()} for side in (table, shifted)]
    for name, value in LongBench.averages(means[0]).items():
        row = rows[f"longbench {name}"]
        assert row.mean_a == pytest.approx(value)
        assert row.difference == pytest.approx(LongBench.averages(means[1])[name] - value)
        assert row.interval[0] < row.difference < row.interval[1]
    average = rows["longbench Avg"]
    assert average.n == sum(map(len, table.values())) and len(average.members) == len(table)
    strata = [np.subtract(shifted[t], table[t]) for t in average.members]
    own = difference_interval(strata, level=1 - 0.05 * average.p / average.p_adjusted)
    assert average.interval == pytest.approx(own, abs=1e-9)
    assert found.deciding() == [average]
    assert [r.name for r in found.rows[: len(table)]] == list(table)


def test_an_average_that_lacks_a_set_is_left_out_and_the_plain_mean_speaks(tmp_path):
    sets = LongBench.group[:4]
    a, b = pair(tmp_path, longbench(0.0, sets), longbench(0.1, sets), second={"method": "new"})
    found = compare(a, b)
    assert "longbench Avg" not in {r.name for r in found.rows}
    [mean] = found.deciding()
    assert (mean.name, len(mean.members)) == ("longbench mean of tasks", 4)
    assert mean.difference == pytest.approx(np.mean([r.difference for r in found.rows if not r.members]))


def test_weights_are_found_by_asking_the_family(monkeypatch):
    def averages(means):
        return {
            "wavg": 0.25 * means["trec"] + 0.75 * means["lcc"],
            "one": means["lcc"],
            "best": max(means.values()),
        }

    monkeypatch.setattr(LongBench, "averages", averages)
    assert average_weights("longbench", ["trec", "lcc"]) == ({"wavg": {"trec": 0.25, "lcc": 0.75}}, ["best"])


def test_a_family_that_is_not_installed_has_no_averages_and_says_so(tmp_path):
    table = {"ours/a": BASE.tolist(), "ours/b": BASE.tolist()}
    a, b = pair(tmp_path, table, table, second={"method": "new"})
    found = compare(a, b)
    assert [r.name for r in found.rows] == ["ours/a", "ours/b"] == [r.name for r in found.deciding()]
    assert any(c.startswith("no averages of ours: no task named 'ours'") for c in found.caveats)


# --- many at once


def test_one_correction_for_the_whole_table(tmp_path):
    few = {"niah": [0.1, 0.2]}
    a = make_run(tmp_path, task(BASE) | few)
    others = [
        make_run(tmp_path, task((BASE + shift).clip(0, 1)) | few, method=f"m{i}")
        for i, shift in enumerate(RNG.normal(0, 0.05, (4, 40)))
    ]
    first, *rest = load_runs([a, *others])
    found = compare_many(first, rest)
    rows = [r for c in found for r in c.rows if r.name == "passkey"]
    assert [r.p_adjusted for r in rows] == holm([r.p for r in rows])
    assert all(c.tests == 4 for c in found), "what is too small to be a test is none"
    assert all(r.verdict == "too few samples to tell" for c in found for r in c.rows if r.name == "niah")


def test_false_alarms_over_a_table_are_rarer_than_five_percent(tmp_path):
    rng = np.random.default_rng(3)
    a, b = pair(
        tmp_path,
        {f"t{i}": [0.0] * 25 for i in range(4)},
        {f"t{i}": [0.0] * 25 for i in range(4)},
        second={"method": "new"},
    )
    alarms = 0
    for _ in range(60):
        for run in (a, b):
            for record in run.records.values():
                record.scores["score"] = float(rng.random() < 0.5)
        alarms += any(r.verdict in ("better", "worse") for r in compare(a, b, resamples=200).rows)
    assert alarms / 60 <= 0.1


# --- a gate for CI


def test_worse_by_more_than_so_many_points(tmp_path):
    a, b = pair(tmp_path, task(BETTER), task(BASE), second={"method": "new"})
    found = compare(a, b)
    drop = -100 * found.rows[0].difference
    assert found.worse_by(0) == found.worse_by(drop - 0.01) == list(found.rows)
    assert found.worse_by(drop + 0.01) == [] and compare(b, a).worse_by(0) == []
    noise = labelled([a, dataclasses.replace(a, label="again")])
    assert compare(*noise).worse_by(0) == []


def test_a_gate_says_where_no_result_could_be_significant(tmp_path):
    tasks = [f"task{i}" for i in range(14)]
    x = {t: [1.0] * 8 for t in tasks}
    a, b = pair(tmp_path, x, {**x, "task3": [0.0] * 8}, second={"method": "new"})
    found = compare(a, b)
    lost = next(r for r in found.rows if r.name == "task3")
    assert (lost.verdict, lost.p_adjusted, found.tests) == ("too few samples to tell", None, 0)
    assert lost in [r for r in found.deciding() if r.p_adjusted is None], "and so the gate names it"
    alone = compare(a, b, tasks=["task3"]).rows[0]
    assert alone.verdict == "worse"


def test_a_gate_asks_what_it_is_there_for_and_no_more(tmp_path):
    sets = [f"longbench/{name}" for name in LongBench.variants[:13]]
    x = {t: [1.0] * 8 for t in (*sets, "passkey")}
    runs = pair(tmp_path, x, {**x, "passkey": [0.0] * 8}, second={"method": "new"})
    assert compare(*runs).worse_by(1) == [], "p .0078 is nothing among nineteen rows"
    found = gate(runs[0], runs[1:], 1)
    assert [(r.name, r.p_adjusted < 0.05) for _, r in found.worse] == [("passkey", True)] and not found.blind
    few = {t: v[:4] for t, v in x.items()}
    runs = pair(tmp_path / "few", few, {**few, "passkey": [0.0] * 4}, second={"method": "new"})
    found = gate(runs[0], runs[1:], 1)
    assert not found.worse and [r.name for _, r in found.blind] == ["passkey"] and found.needed == 7
    assert any("at least 7 are needed: new on passkey (4)" in line for line, _ in found.lines())


def test_samples_that_are_missing_count_as_wrong_in_a_gate(tmp_path):
    right = {f"s{i:03}": 1.0 for i in range(40)}
    half = dict(list(right.items())[:20])
    planned = {"extra": {"planned": {"passkey": [*right]}}, "planned": {"passkey": 40}}
    runs = pair(tmp_path, {"passkey": right}, {"passkey": half}, planned, {"method": "new", **planned})
    assert compare(*runs).rows[0].difference == 0
    found = gate(runs[0], runs[1:], 1)
    [(_, row)] = found.worse
    assert (row.n, row.difference) == (40, -0.5)
    assert (
        "new did not finish 20 samples, plain 0; this gate counts them as wrong",
        "yellow",
    ) in found.lines()


def test_questions_on_one_context_are_tested_together(tmp_path):
    rng = np.random.default_rng(3)
    alarms = {True: 0, False: 0}
    for number in range(24):
        shared = rng.normal(0, np.sqrt(0.2), (20, 1))
        differences = 0.1 * (shared + rng.normal(0, np.sqrt(0.8), (20, 10))).ravel()
        scores = (
            {f"s{i:03}": 0.5 for i in range(200)},
            {f"s{i:03}": float(np.clip(0.5 + d, 0, 1)) for i, d in enumerate(differences)},
        )
        for together in alarms:
            a, b = pair(
                tmp_path / f"{number}{together}",
                {"passkey": scores[0]},
                {"passkey": scores[1]},
                second={"method": "new"},
            )
            if together:
                for run in (a, b):
                    for (_, name), record in run.records.items():
                        object.__setattr__(record, "text_hash", f"text {int(name[1:]) // 10}")
            found = compare(a, b, resamples=500)
            [row] = found.rows
            assert (row.n, row.contexts) == (200, 20 if together else 200)
            alarms[together] += row.verdict != "indistinguishable"
    assert alarms[True] <= 3 < alarms[False]
    assert found.rows[0].p_mcnemar is None
    said = compare(a, b).caveats
    assert not any("contexts" in line for line in said), "of none is it said where none is shared"


def test_how_many_contexts_stand_behind_is_said(tmp_path):
    a, b = pair(tmp_path, {"passkey": [1.0] * 12}, {"passkey": [0.0] * 12}, second={"method": "new"})
    for run in (a, b):
        for (_, name), record in run.records.items():
            object.__setattr__(record, "text_hash", str(int(name[1:]) % 3))
    [row] = compare(a, b).rows
    assert (row.contexts, row.verdict, row.p_mcnemar) == (3, "too few samples to tell", None)
    assert "questions on one context are tested together: passkey 12 on 3 contexts" in compare(a, b).caveats
    for record in [r for run in (a, b) for r in run.records.values()]:
        object.__setattr__(record, "text_hash", "the one")
    found = compare(a, b)
    assert (found.rows[0].contexts, found.rows[0].verdict) == (12, "worse")
    assert any("all questions are on one context" in line for line in found.caveats)


def test_a_verdict_and_its_interval_never_contradict_each_other(tmp_path):
    rng = np.random.default_rng(4)
    for number in range(12):
        x = {f"t{i}": rng.random(9).round(2).tolist() for i in range(4)}
        y = {t: [float(np.clip(v + rng.normal(0.12, 0.15), 0, 1)) for v in mine] for t, mine in x.items()}
        a, b = pair(tmp_path / str(number), x, y, second={"method": "new"})
        for row in compare(a, b, resamples=500).rows:
            assert row.interval is not None
            outside = not row.interval[0] <= 0 <= row.interval[1]
            assert outside <= (row.verdict == "better") and (row.verdict == "better") <= (
                row.interval[0] >= 0
            )


def test_failures_do_not_open_a_gate(tmp_path):
    right = {f"s{i:03}": 1.0 for i in range(38)}
    wrong = {f"w{i:03}": float(i < 45) for i in range(82)}
    a, b = pair(
        tmp_path,
        {"passkey": right | wrong},
        {"passkey": right},
        second={"method": "new", "failed": {"passkey": [*wrong]}},
    )
    assert compare(a, b).worse_by(1) == []
    [found] = compare_many(a, [b], failed_as_wrong=True)
    [row] = found.worse_by(1)
    assert (row.n, row.verdict, round(100 * row.difference, 1)) == (120, "worse", -37.5)
    assert (
        "with failed samples counted as wrong: passkey A 69.2, B 31.7, B - A -37.5 (n 120)"
        in compare(a, b).caveats
    )
