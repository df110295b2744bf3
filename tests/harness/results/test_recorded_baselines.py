"""Recorded baselines: small, the same bytes each time, without answers or paths, and compared like the run."""

import dataclasses
import json

import pytest

from harness import UsageError
from harness._util import artifacts
from harness.comparison.verdicts import compare
from harness.results import recorded_baselines
from harness.results.loading import load_runs

from ...helpers.records_made import make_run

SCORES = {"passkey": [1.0, 0.0, 1.0, 1 / 3], "longbench/trec": {"x": {"score": 0.5, "f1": 0.25}}}


@pytest.fixture
def run(tmp_path):
    path = make_run(
        tmp_path / "runs", SCORES, facts={"file": "/somewhere/else/a.json"}, failed={"passkey": ["s9"]}
    )
    [run] = load_runs([path])
    return run


def test_what_was_recorded_compares_like_the_run_itself(run, tmp_path):
    [back] = recorded_baselines.read(recorded_baselines.record("main", [run], tmp_path / "kept"))
    assert (back.hash, back.label, back.n_ok, back.planned) == (run.hash, "plain", 5, 6)
    assert back.source == "recorded baseline main" and back.tasks == run.tasks
    [other] = load_runs([make_run(tmp_path / "runs", {"passkey": [0.5] * 4}, method="new")])
    first, second = compare(run, other), compare(back, other)
    assert (first.rows, first.caveats) == (second.rows, second.caveats)
    assert {k: r.scores for k, r in back.records.items() if r.finished} == {
        k: r.scores for k, r in run.records.items() if r.finished
    }
    rows = {row["id"]: row for row in back.rows()}
    assert (rows["s0"]["kv_tokens"], rows["s0"]["seconds"], rows["s0"]["prediction"]) == (100, 1.23457, None)
    assert rows["s9"]["status"] == "oom"


def test_the_file_holds_no_answers_and_no_paths_and_is_always_the_same(run, tmp_path):
    path = recorded_baselines.record("main", [run], tmp_path / "kept")
    text = path.read_text()
    assert "it is" not in text and "answer to" not in text and str(tmp_path) not in text
    assert "/somewhere" not in text and '"a.json"' in text
    assert recorded_baselines.record("main", [run], tmp_path / "again").read_bytes() == path.read_bytes()
    assert recorded_baselines.record("main", [run], tmp_path / "kept") == path, (
        "the same once more is nothing new"
    )


def test_what_questions_shared_is_kept_where_they_did(run, tmp_path):
    records = {
        k: dataclasses.replace(r, cost=dataclasses.replace(r.cost, questions=3, saved_seconds=0.5))
        for k, r in run.records.items()
        if r.finished
    }
    [back] = recorded_baselines.read(
        recorded_baselines.record("shared", [dataclasses.replace(run, records=records)], tmp_path)
    )
    assert all((r.cost.questions, r.cost.saved_seconds) == (3, 0.5) for r in back.records.values())
    path = recorded_baselines.record("plain", [run], tmp_path)
    assert '"questions"' not in path.read_text()
    assert recorded_baselines.read(path)[0].of_task("passkey")["s0"].cost.questions == 1


def test_nothing_is_written_over(run, tmp_path):
    path = recorded_baselines.record("main", [run], tmp_path)
    before = path.read_bytes()
    [other] = load_runs([make_run(tmp_path / "runs", {"passkey": [0.0]}, method="new")])
    with pytest.raises(UsageError, match="holds another baseline"):
        recorded_baselines.record("main", [other], tmp_path)
    assert path.read_bytes() == before


def test_what_is_not_finished_or_has_no_name_is_not_recorded(run, tmp_path):
    for name in ("", "../up", "a/b", ".hidden"):
        with pytest.raises(UsageError, match="--record"):
            recorded_baselines.record(name, [run], tmp_path)
    with pytest.raises(UsageError, match="no runs"):
        recorded_baselines.record("main", [], tmp_path)
    [half] = load_runs([make_run(tmp_path / "half", SCORES, status="interrupted")])
    with pytest.raises(UsageError, match="marked as interrupted: finish it"):
        recorded_baselines.record("main", [half], tmp_path)


def test_a_name_is_looked_up_in_the_folder_then_in_what_ships(run, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "folders", lambda: [tmp_path / "package"])
    shipped = recorded_baselines.record("shipped", [run], tmp_path / "package" / "recorded")
    own = recorded_baselines.record("main", [run], tmp_path / "own")
    assert recorded_baselines.find("main", tmp_path / "own") == own
    assert recorded_baselines.find("shipped", tmp_path / "own") == shipped
    assert recorded_baselines.find(str(own)) == own
    assert recorded_baselines.names(tmp_path / "own") == ["main", "shipped"]
    with pytest.raises(UsageError, match="named 'mian'; did you mean 'main'"):
        recorded_baselines.find("mian", tmp_path / "own")
    monkeypatch.setattr(artifacts, "folders", lambda: [])
    with pytest.raises(UsageError, match="there is no run's folder main, and no baseline of that name"):
        recorded_baselines.find("main", tmp_path / "none")


def test_a_damaged_file_is_one_line(run, tmp_path):
    path = recorded_baselines.record("main", [run], tmp_path)
    whole = json.loads(path.read_text())
    short = json.loads(path.read_text())
    short["runs"][0]["tasks"]["passkey"]["measured"]["kv_tokens"].pop()
    for content, why in (
        (whole | {"schema": 9}, "schema"),
        ([], "damaged"),
        (short, "length"),
        ({"schema": 1}, "missing"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UsageError, match=why):
            recorded_baselines.read(path)
    path.write_text("{")
    with pytest.raises(UsageError, match="no recorded baseline, or damaged"):
        recorded_baselines.read(path)
