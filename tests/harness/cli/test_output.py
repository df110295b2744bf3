"""What each verb prints: under --json one object and nothing else, under --quiet nothing beside the results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import VERBS, invoke

from ...helpers.fits import fit_words, repeating
from ...helpers.records_made import make_run
from ...helpers.running import one_thread

NOISY = """
from harness.plugins.plain import Plain


class Noisy(Plain):
    def compress_and_generate(self, prompts, decoding):
        print("a print that was forgotten")
        return super().compress_and_generate(prompts, decoding)
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def commands(tiny_folder, tmp_path, monkeypatch):
    """A command of each verb, as cheap as it can be; each ends with exit status 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    (tmp_path / "answers.jsonl").write_text(
        json.dumps({"task": "passkey", "prediction": "12345", "answers": ["12345"]}) + "\n"
    )
    scores = {"passkey": {f"s{i}": i % 2 for i in range(8)}}
    one, two = (str(make_run(tmp_path / "made" / name, scores, seed=n)) for n, name in enumerate("ab"))
    (tmp_path / "pred").mkdir()
    (tmp_path / "pred" / "hotpotqa.jsonl").write_text(
        '{"pred": "Rome", "answers": ["Rome"], "all_classes": null}\n'
    )
    model = ["--model", str(tiny_folder)]
    return {
        "run": ["run", "-m", "plain", *model, "--device", "cpu", "--limit", "1"],
        "report": ["report", one, two, "--kind", "comparison"],
        "reproduce": ["reproduce"],
        "list": ["list", "recipes"],
        "compare": ["compare", one, two, "--resamples", "200"],
        "score": ["score", "answers.jsonl"],
        "export": ["export", one, two, "--out", "results.parquet", "--force"],
        "import": ["import", "pred", "--from", "longbench"],
        "data": ["data", "show", "passkey", *model],
        "new": ["new", "method", "ends"],
        "check": ["check", "plain", "--only", "declared"],
        "doctor": ["doctor"],
    }


ELSEWHERE = {"fit", "synth", "lm-eval", "view"}
"""The first two print their card (test_fit, test_synthesis); lm-eval has a command line of its own, view serves."""


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - ELSEWHERE))
def test_json_is_one_object_and_quiet_is_quiet(commands, verb, capfd):
    assert invoke([*commands[verb], "--json", "--quiet"]) == 0
    shown = capfd.readouterr()
    assert isinstance(json.loads(shown.out), dict) and shown.out.count("\n") >= 1
    assert shown.err == ""


@pytest.mark.parametrize("verb", ["report", "reproduce", "list", "compare", "score", "data", "run"])
def test_quiet_keeps_the_results(commands, verb, capfd):
    assert invoke(commands[verb]) == 0
    loud = capfd.readouterr()
    assert invoke([*commands[verb], "--quiet"]) == 0
    quiet = capfd.readouterr()
    assert quiet.err == "" and loud.out
    if verb == "run":  # the second finds every sample there, and says so
        loud, quiet = (x.out.splitlines()[:3] for x in (loud, quiet))
        assert loud[0] == quiet[0]
    else:
        assert quiet.out == loud.out


def test_quiet_does_not_hide_errors(capfd):
    assert invoke(["run", "-m", "to_pass", "--quiet", "--json"]) == 2
    assert capfd.readouterr() == ("", "harness: no method named 'to_pass'; did you mean 'two_pass'?\n")


def test_a_plugins_own_print_is_not_in_the_json(commands, tmp_path, capsys):
    (tmp_path / "noisy.py").write_text(NOISY)
    before = sys.stdout
    words = [*commands["run"], "--plugin", "noisy.py"]
    words[words.index("plain")] = "noisy"
    assert invoke([*words, "--json"]) == 0
    assert sys.stdout is before
    shown = capsys.readouterr()
    assert json.loads(shown.out)["total"]["n_ok"] == 1
    assert shown.err == "a print that was forgotten\n"


def test_a_suites_plan(capfd, tiny_folder, tmp_path):
    content = {
        "name": "small",
        "title": "One cell",
        "settings": {"model": str(tiny_folder), "device": "cpu", "out": str(tmp_path), "limit": 1},
        "cells": {"all": {"label": "all", "method": "plain"}},
        "columns": [{"key": "passkey", "tasks": ["passkey"]}],
    }
    (tmp_path / "small.yaml").write_text(json.dumps(content))  # JSON is YAML
    assert invoke(["run", str(tmp_path / "small.yaml"), "--dry-run", "--json", "--quiet"]) == 0
    shown = capfd.readouterr()
    plan = json.loads(shown.out)
    assert (plan["name"], plan["models"], shown.err) == ("small", [str(tiny_folder)], "")
    [row] = plan["runs"]
    assert (row["row"], row["samples"], row["done"], row["state"]) == ("all", 1, 0, "new")
    assert row["tokens"] > 200 and row["seconds"] > 0


def test_what_cannot_be_json(capfd):
    assert invoke(["reproduce", "thesis-4.3", "--print", "--json"]) == 2
    assert capfd.readouterr().err == "harness: --print shows a file, which is YAML: leave --json out\n"
    assert invoke(["report", "--json", "--out", "x.md"]) == 2
    assert capfd.readouterr().err.startswith("harness: --json prints JSON; for a file say --out NAME.json")


# --- what the libraries below would say by themselves, in a process of its own

COMMANDS = """
import json, os, sys
from harness.cli import main

shown = []
for number, words in enumerate(json.loads(sys.argv[1])):
    sys.stdout.flush(), sys.stderr.flush()
    for stream in (1, 2):  # the descriptors: what a library or a child of its prints goes there too
        os.dup2(os.open(f"{number}-{stream}", os.O_CREAT | os.O_WRONLY), stream)
    sys.argv = ["harness", *words]
    try:
        main()
    except SystemExit as end:
        print(end.code, file=open(f"{number}-status", "w"))
import datasets, warnings
datasets.load_dataset("json", data_files="rows.jsonl", cache_dir="datasets")
warnings.warn("for who writes the code")
"""


def test_nothing_but_ours_is_printed(tiny_folder, tmp_path):
    """Outside any git checkout, with the environment of somebody who set nothing."""
    (tmp_path / "answers.jsonl").write_text(
        json.dumps({"task": "passkey", "prediction": "12345", "answers": ["12345"]}) + "\n"
    )
    rows = repeating(tmp_path / "rows.jsonl")
    model = ["--model", str(tiny_folder)]
    plain = ["run", "-m", "plain", *model, "--device", "cpu", "--limit", "1"]
    commands = [
        fit_words(str(tiny_folder), str(rows), "adapter", "--json"),
        [*plain, "--json"],
        plain,
        ["data", "show", "passkey", *model],
        ["score", "answers.jsonl", "--json"],
        ["check", "plain", "--only", "declared", "--json"],
    ]
    loud = ("VERBOSITY", "PROGRESS_BARS", "ADVISORY", "HARNESS_DEBUG", "PYTHONWARNINGS")
    kept = {name: value for name, value in os.environ.items() if not any(word in name for word in loud)}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        cwd=tmp_path,
        env={**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "250"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    out, err, status = (
        [(tmp_path / f"{n}-{what}").read_text() for n in range(len(commands))]
        for what in ("1", "2", "status")
    )
    assert err == [""] * len(commands) and status == ["0\n"] * len(commands)
    [folder] = (tmp_path / "runs").iterdir()
    summary = json.loads((folder / "run.json").read_text())["summary"]
    assert json.loads(out[1]) == {
        "folder": str(Path("runs") / folder.name),
        "ran": 1,
        "unavailable": {},
        **summary,
    }
    assert json.loads(out[0]) == json.loads((tmp_path / "adapter" / "adapter.json").read_text())
    assert out[2].startswith(f"plain on {tiny_folder}") and "\nnothing to do: this run is finished" in out[2]
    assert out[3].startswith("passkey, sample 1: ")
    assert out[4] == '{"scores": [1.0], "tasks": {"passkey": 100.0}, "thoughts": 0}\n'
    assert json.loads(out[5])["ok"] is True and out[5].count("\n") == 1


def test_an_output_that_is_not_utf8_has_its_characters_replaced(tmp_path):
    scores = {"passkey": {f"s{i}": i % 2 for i in range(8)}}
    made = [str(make_run(tmp_path / name, scores, seed=n)) for n, name in enumerate("öü")]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "120"}
    file = tmp_path / "ü.md"
    for more in ([], ["--format", "markdown", "--out", str(file)]):
        words = [sys.executable, "-m", "harness", "report", *made, "--kind", "comparison", *more]
        done = subprocess.run(words, capture_output=True, env=ascii_only, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii() and b"?" in done.stdout
    assert not file.read_text("utf-8").isascii(), "a file is UTF-8 all the same"
