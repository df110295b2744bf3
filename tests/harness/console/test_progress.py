"""What is said of a run, a fit and a synthesis while they go on, in a log and on a terminal."""

import time

import pytest

from harness.console import progress
from harness.console.progress import FitDisplay, RunDisplay, SynthDisplay, run_in_words
from harness.contracts.record import SampleRecord

from ...helpers import making


def a_run(words):
    record = SampleRecord.from_json(making.record("passkey", "a", {"accuracy": 1.0}))
    with RunDisplay(words) as display:
        display.start({"passkey": 3}, {"passkey": 1})
        display.begin([("passkey", "a"), ("passkey", "b")])
        display.phase("compress")
        display._since -= 60
        display.step(2, 9, "intervals")
        display.phase("decode")
        display.sample("passkey", record)


def test_a_log_says_what_is_run_where_it_is_and_what_is_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LOGGED", 0.0)
    a_run(run_in_words("two_pass", "smollm2", ["passkey"]))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "two_pass on smollm2, passkey: 3 samples, 1 finished before"
    assert "passkey, a and 1 more: compressing, 0 s so far" in lines
    assert "passkey, a and 1 more: compressing 3 of 9 intervals, 60 s so far, 210 s left" in lines
    assert any(line.startswith("passkey, a and 1 more: answering") for line in lines)
    assert lines[-1].startswith("passkey: 2 of 3 samples, ")


def test_a_quick_run_leaves_a_log_empty(capsys):
    a_run("plain on tiny, passkey")
    assert capsys.readouterr().err == ""


def test_a_log_has_notes_of_what_takes_more_than_a_moment(capsys, monkeypatch):
    with RunDisplay("plain on tiny, passkey") as display:
        display.note("not asked: longbench/trec: no trec.jsonl")
        assert capsys.readouterr().err == "", "whatever is quick has none"
        monkeypatch.setattr(progress, "PATIENCE", 0.0)
        display.note("passkey: 10 prompts made, 10 in all")
        display.note("passkey: 20 prompts made, 20 in all")
    assert capsys.readouterr().err.splitlines() == [
        "plain on tiny, passkey",
        "not asked: longbench/trec: no trec.jsonl",
        "passkey: 10 prompts made, 10 in all",
        "passkey: 20 prompts made, 20 in all",
    ]


def test_a_log_says_once_what_is_run(capsys, monkeypatch):
    """Reading prompts took a while, so notes are due before and after."""
    with RunDisplay("plain on tiny, passkey") as display:
        monkeypatch.setattr(progress, "PATIENCE", 0.0)
        display.start({"passkey": 3}, {"passkey": 0})
        display.note("loading tiny")
    assert capsys.readouterr().err.splitlines() == ["plain on tiny, passkey: 3 samples", "loading tiny"]


def test_a_log_is_told_after_a_moment_although_nothing_happens(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    with RunDisplay("plain on tiny, passkey") as display:
        deadline = time.monotonic() + 20
        while display._early is not None and display._early.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        display.start({"passkey": 3}, {"passkey": 0})
    assert capsys.readouterr().err.splitlines() == [
        "plain on tiny, passkey: preparing",
        "plain on tiny, passkey: 3 samples",
    ]


def test_a_log_tells_a_preparation_from_a_sample(capsys, monkeypatch):
    """A method that calibrates reads texts of its own, before the first sample and between two tasks."""
    monkeypatch.setattr(progress, "LOGGED", 0.0)
    with RunDisplay("two_pass on tiny, passkey") as display:
        display.start({"passkey": 3}, {"passkey": 0})
        for name in ("", "a"):
            if name:
                display.begin([("passkey", name)])
            capsys.readouterr()
            with display.announce("calibrating ratio 8") as told:
                display.phase("compress")
                display.step(2, 9, "intervals")
                told(1, 50)
            lines = capsys.readouterr().err.splitlines()
            assert lines[-1] == "calibrating ratio 8: 1 of 50" and not [n for n in lines if "compress" in n]
        display.phase("decode")
        assert capsys.readouterr().err.splitlines() == ["passkey, a: answering, 0 s so far"]


def test_a_terminal_shows_it_from_the_first_second(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with RunDisplay("plain on tiny, passkey"):
        pass
    assert "plain on tiny, passkey: preparing" in capsys.readouterr().err
    a_run("two_pass on tiny, passkey")
    shown = capsys.readouterr().err
    assert "two_pass on tiny, passkey: 3 samples, 1 finished before" in shown and "2/3" in shown


@pytest.mark.parametrize("many", [2, 5])
def test_many_tasks_are_not_all_named(many):
    said = run_in_words("plain", "m", [f"t{i}" for i in range(many)])
    assert said == {2: "plain on m, t0, t1", 5: "plain on m, t0, t1, t2, 2 more"}[many]


def test_a_log_of_a_fit_and_of_a_synthesis(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LOGGED", 0.0)
    with FitDisplay() as fit:
        fit.start(100, 10)
        fit._since -= 30
        fit.step(40, 2.0, 100, 1.0)
    with SynthDisplay() as synth:
        synth.start("stories", 20, 4)
        synth.step(3, "9 tok/s")
    lines = capsys.readouterr().err.splitlines()
    said = "step 40 of 100, loss 2.000, 100 tok/s, 30 s so far, 60 s left"
    assert lines == [said, "stories: 7 of 20, 9 tok/s"]
