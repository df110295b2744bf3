"""``harness check``: verdicts for people and for machines, an exit status, and one line for what is wrong."""

import json

import pytest

from harness.cli import invoke

from ...helpers.running import as_method, with_entry_points
from .broken_methods import Keep, OnlyTheFirst


@pytest.fixture
def check(tiny_folder, capsys):
    """Run a check on the small model; returns exit status, output and errors."""

    def call(*words, model=True):
        capsys.readouterr()
        status = invoke(["check", *map(str, words), *(["--model", str(tiny_folder)] if model else [])])
        return status, *capsys.readouterr()

    return call


def test_a_check_says_what_it_proves(check, monkeypatch):
    status, out, _ = check(as_method(monkeypatch, Keep, "keep"), "--recent", 30, "--only", "every-sample")
    assert status == 0
    assert (
        "every-sample" in out
        and "each of three samples in a row is compressed (KV entries of tokens: 51 of 297, 51 of 361" in out
    )
    assert out.splitlines()[-1] == "1 ok"


def test_a_failure_is_explained_and_costs_the_exit_status(check, monkeypatch):
    name = as_method(monkeypatch, OnlyTheFirst, "first")
    status, out, _ = check(name, "--only", "every-sample", "--only", "order")
    assert status == 1 and out.splitlines()[-1] == "1 failed, 1 skipped"
    flat = " ".join(out.split())
    assert "sample 2 of three in a row began its answer from" in flat and "make it anew in every call" in flat
    assert "skipped, as they build on every-sample: order" in flat
    assert flat.count("sample 2 of three in a row") == 1
    status, out, _ = check(name, "--only", "order")
    flat = " ".join(out.split())
    assert "skipped (says nothing while every-sample fails (sample 2 of three in a row" in flat
    assert flat.endswith(": order 1 skipped") and status == 1
    status, out, _ = check(name, "--only", "every-sample", "--json")
    found = json.loads(out)
    assert status == 1 and found["ok"] is False and found["method"] == "first"
    assert found["checks"][0]["status"] == "failed" and found["checks"][0]["seconds"] > 0


def test_a_file_is_checked_without_installing_it(check, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.registry._local_methods", {})
    file = tmp_path / "mine.py"
    file.write_text("from tests.harness.testing.broken_methods import Keep\nclass Mine(Keep):\n    'Mine.'\n")
    status, out, _ = check(
        "--plugin", file, "mine", "--sinks", 1, "--only", "contract", "--json", model=False
    )
    assert status == 0 and json.loads(out)["checks"][0]["reason"] == "version 1; compress and generate"


def test_a_task_is_checked_with_its_options(check):
    status, out, _ = check("--task", "passkey", "--set", "passkey.lengths=200", "--json")
    assert status == 0 and {c["status"] for c in json.loads(out)["checks"]} == {"ok"}
    status, out, _ = check("--task", "longbench/trec")
    assert status == 0 and "its samples are not to be had here" in out and "not applicable" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name one method, or one task with --task"),
        (["plain", "--task", "passkey"], "name one method, or one task with --task"),
        (["plian"], "no method named 'plian'; did you mean 'plain'?"),
        (["plain", "--only", "ordr"], "no check named 'ordr'; did you mean 'order'?"),
        (["beacon", "--interval", "1"], "option interval='1'"),
        (["plain", "--adapter", "x"], "--adapter belongs to the model it was trained on"),
        (["plain", "--set", "passkey.lengths=1"], "--set and --data-dir are a task's"),
        (["--task", "passkey", "--set", "niah.trials=1"], "--set niah: only options of passkey"),
        (["plain", "--model", "no/such/folder"], "model no/such/folder: no such folder"),
    ],
)
def test_what_is_wrong_is_one_line(check, words, said):
    status, out, err = check(*words, model=False)
    assert status == 2 and out == "" and said in err and err.count("\n") == 1


def test_a_broken_plugin_is_named(check, monkeypatch):
    with_entry_points(monkeypatch, ("harness.methods", "gone", "no_such_module_anywhere:Thing"))
    status, _, err = check("gone", model=False)
    assert status == 2 and "method 'gone' from an unknown distribution cannot be imported" in err
    status, _, _ = check("plain", "--only", "contract", model=False)
    assert status == 0


def test_the_users_cache_and_environment_are_left_alone(check, empty_cache):
    import os

    before = dict(os.environ)
    options = ["--interval", 32, "--calibration-contexts", 2]
    status, out, _ = check("two_pass", *options, "--only", "answers", "--json")
    assert status == 0, out
    assert dict(os.environ) == before
    assert not list(empty_cache.rglob("calibrations"))
