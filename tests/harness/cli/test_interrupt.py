"""Ctrl-C leaves something valid, says how to go on, and the same command ends as if it had not been.

The line begins on a new one, after the terminal's own ``^C``.
"""

import json

import pytest

from harness.cli import invoke
from harness.console.progress import FitDisplay, RunDisplay, SynthDisplay
from harness.results.run_folder import RunFolder
from harness.suites import document
from harness.synthesis.generators import ModelGenerator

from ...helpers.fits import fit_words, repeating, same, tensors
from ...helpers.running import one_thread
from ...helpers.synthesizing import Script

RESUMES = "\nharness: interrupted; the same command resumes where it stopped\n"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


def interrupted_at(monkeypatch, cls, name, call):
    """Ctrl-C at that call of a display's method, the moment a user sees something move."""
    real, calls = getattr(cls, name), []

    def method(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(cls, name, method)


def test_a_fit(tiny_folder, tmp_path, monkeypatch, capfd):
    data = repeating(tmp_path / "rows.jsonl")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert invoke(fit_words(tiny_folder, data, whole)) == 0
    capfd.readouterr()
    with monkeypatch.context() as patch:
        interrupted_at(patch, FitDisplay, "step", 3)
        assert invoke(fit_words(tiny_folder, data, cut)) == 130
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == (
        "\nharness: interrupted; the same command goes on from the last checkpoint, see --save-every\n"
    )
    assert not (cut / "adapter.json").exists(), "half a fit is no adapter"
    assert (cut / "training" / "checkpoint-2").is_dir()
    assert invoke(fit_words(tiny_folder, data, cut)) == 0
    assert same(tensors(whole), tensors(cut))


def test_synthetic_data(tiny_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(ModelGenerator, "generate", lambda self, asked, seed: Script().generate(asked, seed))
    words = ["synth", "--recipe", "thesis", "--count", "8", "--length-range", "3000-5000"]
    words += ["--batch-size", "2", "--items", "8", "--model", str(tiny_folder)]
    words += ["--device", "cpu", "--quiet", "--out"]
    with monkeypatch.context() as patch:
        interrupted_at(patch, SynthDisplay, "step", 3)
        assert invoke([*words, str(tmp_path / "cut")]) == 130
    assert capfd.readouterr() == ("", RESUMES)
    assert not (tmp_path / "cut" / "data.jsonl").exists(), "half a data set is none"
    kept = (tmp_path / "cut" / "pool" / "story.jsonl").read_text()
    assert kept.endswith("\n") and all(map(json.loads, kept.splitlines()))
    status = invoke([*words, str(tmp_path / "cut")])
    assert status == invoke([*words, str(tmp_path / "whole")]) != 130
    for name in ("data.jsonl", "pool/story.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_papers_table(tiny_folder, tmp_path, monkeypatch, capfd):
    content = {
        "name": "small",
        "title": "One cell",
        "settings": {"model": str(tiny_folder), "device": "cpu", "out": str(tmp_path / "runs")},
        "cells": {"all": {"label": "all", "method": "plain"}},
        "columns": [{"key": "passkey", "tasks": ["passkey"]}],
    }
    (tmp_path / "small.yaml").write_text(json.dumps(content))  # JSON is YAML
    monkeypatch.setattr(document, "find", lambda name: tmp_path / "small.yaml")
    with monkeypatch.context() as patch:
        interrupted_at(patch, RunDisplay, "sample", 2)
        assert invoke(["reproduce", "small", "--quiet"]) == 130
    assert capfd.readouterr() == ("", RESUMES)
    [folder] = [path for path in (tmp_path / "runs").iterdir() if path.name != "suites"]
    before = RunFolder(folder).read_run()
    assert before["status"] == "interrupted" and before["summary"]["total"]["n_ok"] >= 1
    assert invoke(["reproduce", "small", "--quiet", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["reports"]
    assert RunFolder(folder).read_run()["status"] == "finished"
    assert len(RunFolder(folder).records()) == RunFolder(folder).read_run()["summary"]["total"]["n_ok"] == 3


def test_a_quick_verb_promises_nothing(monkeypatch, capfd):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.cli._doctor.examine", stopped)
    assert invoke(["doctor"]) == 130
    assert capfd.readouterr() == ("", "\nharness: interrupted\n")
