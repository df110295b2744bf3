"""A group of tasks of which some cannot be asked here: the others are, and the rest is said."""

import json

import pytest

from harness import UsageError, registry
from harness.cli import invoke
from harness.evaluation import collecting
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.evaluation.settings import RunSettings

from ..helpers.running import Watcher

NEED_NO_DATA = {"niah_single_1", "niah_multikey_2", "niah_multikey_3", "vt", "cwe", "fwe"}


def run(wanted):
    return execute(plan_run(wanted), Watcher())


@pytest.fixture
def ruler(monkeypatch, tiny_folder, tmp_path, empty_cache):
    """Settings of the whole group on the tiny model, cut to a few tokens."""
    cls = registry.task_class("ruler")[0].cls
    monkeypatch.setattr(cls, "group", ("vt", "niah_single_2", "fwe", "qa_1"))

    def wanted(**changes):
        base = {"method": "beacon", "options": {"interval": "32"}, "limit": 1, "offline": True}
        base |= {"model": str(tiny_folder), "device": "cpu", "out": tmp_path / "runs", "tasks": ("ruler",)}
        return RunSettings(**{**base, "task_settings": {"ruler": {"lengths": "1200"}}, **changes})

    return wanted


def test_members_whose_data_are_missing_are_named_and_the_others_run(ruler):
    result = run(ruler())
    assert {r.task for r in result.folder.records()} == {"ruler/vt", "ruler/fwe"}
    content = json.loads((result.folder.path / "run.json").read_text())
    assert set(content["unavailable"]) == {"ruler/niah_single_2", "ruler/qa_1"}
    assert "PaulGrahamEssays.json in --data-dir" in content["unavailable"]["ruler/niah_single_2"]
    assert "squad.json" in content["unavailable"]["ruler/qa_1"]
    assert [row["task"] for row in result.summary["tasks"]] == ["ruler/vt", "ruler/fwe"]
    assert not result.summary["averages"], "an average over other tasks would be another number"


def test_with_data_it_is_another_run_for_they_are_part_of_what_it_is(ruler, tmp_path):
    first = run(ruler())
    data = tmp_path / "data"
    data.mkdir()
    (data / "PaulGrahamEssays.json").write_text(json.dumps({"text": "It is a sunny day in June. " * 400}))
    second = run(ruler(data_dir=data))
    assert second.folder.path != first.folder.path and second.ran == 3
    assert set(json.loads((second.folder.path / "run.json").read_text())["unavailable"]) == {"ruler/qa_1"}


def test_what_was_asked_for_by_name_must_be_there(ruler):
    with pytest.raises(UsageError, match="needs PaulGrahamEssays"):
        plan_run(ruler(tasks=("ruler/niah_single_2",)))
    with pytest.raises(UsageError, match="needs PaulGrahamEssays"):
        plan_run(ruler(tasks=("ruler", "ruler/niah_single_2")))


def test_a_group_of_which_nothing_can_be_asked_is_an_error(ruler, monkeypatch, capsys, tiny_folder, tmp_path):
    words = [
        "run",
        "-m",
        "plain",
        "-t",
        "longbench",
        "--model",
        str(tiny_folder),
        "--data-dir",
        str(tmp_path),
    ]
    assert invoke([*words, "--out", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "narrativeqa.jsonl" in said
    assert not (tmp_path / "runs").exists()


def test_an_answer_longer_than_the_window_leaves_one_member_out(tiny_folder, tmp_path, monkeypatch, capsys):
    cls = registry.task_class("infinitebench")[0].cls
    monkeypatch.setattr(cls, "group", ("passkey", "math_calc"))
    row = {"id": 0, "context": "1 + 2", "input": "1 + 2", "answer": [1, 3]}
    (tmp_path / "math_calc.jsonl").write_text(json.dumps(row))
    words = ["run", "-m", "plain", "-t", "infinitebench", "--model", str(tiny_folder), "--limit", "1"]
    words += [
        "--set",
        "infinitebench.lengths=230",
        "--data-dir",
        str(tmp_path),
        "--out",
        str(tmp_path / "runs"),
    ]
    assert invoke(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not asked: infinitebench/math_calc" in said and "30000 new tokens leave nothing" in said


MIXED = {
    "infinitebench": {"lengths": "300", "samples": "40"},
    "ruler": {"lengths": "1200", "samples": "10"},
}
"""Families of which some members need files and others none, so small that their prompts are made in no time."""


@pytest.mark.parametrize("family", MIXED)
def test_what_is_missing_is_said_before_prompts_are_made(
    family, tiny_folder, tmp_path, empty_cache, monkeypatch
):
    """After at most one prompt of each task, so that its making shows what else a task lacks."""
    ruler = registry.task_class("ruler")[0].cls
    monkeypatch.setattr(ruler, "group", ("vt", "niah_single_2", "fwe", "qa_1"))
    made, said = [], []
    real = collecting.prepare_sample
    monkeypatch.setattr(
        collecting, "prepare_sample", lambda *given: made.append(given[0].name) or real(*given)
    )
    wanted = RunSettings(
        method="plain",
        model=str(tiny_folder),
        device="cpu",
        out=tmp_path / "runs",
        tasks=(family,),
        task_settings={family: MIXED[family]},
        offline=True,
    )
    plan = plan_run(wanted, note=lambda line: said.append((line, len(made))))
    assert plan.unavailable and len(plan.samples) > 2 * len(plan.tasks)
    assert len(said) == len(plan.unavailable)
    for (line, before), name in zip(said, plan.unavailable):
        assert line.startswith("not asked: ") and name in line and line.count(name) == 1
        assert before == len(plan.tasks), "one of each that can be asked"


def test_how_far_the_making_of_prompts_has_come_is_said(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "TELLING", 0.0)
    said = []
    settings = {"passkey": {"lengths": "200", "depths": "0,50,100"}}
    wanted = RunSettings(
        model=str(tiny_folder), device="cpu", out=tmp_path, tasks=("passkey",), task_settings=settings
    )
    plan_run(wanted, note=said.append)
    assert said[-1] == "passkey: 3 prompts made, 3 in all"


def test_whatever_a_task_raises_at_its_data_is_one_line(tiny_folder, tmp_path, monkeypatch):
    """Anybody may have written it, and its files: the line says which task, what and where."""
    cls = registry.task_class("passkey")[0].cls

    def samples(self, env):
        raise KeyError("context")
        yield

    monkeypatch.setattr(cls, "samples", samples)
    wanted = RunSettings(model=str(tiny_folder), device="cpu", out=tmp_path, tasks=("passkey",))
    with pytest.raises(
        UsageError, match=r"task passkey: its samples cannot be made \(KeyError: 'context', test_"
    ):
        plan_run(wanted)
