"""A run in a file: every flag, flags before it, the same run as from the command line and from Python."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

import harness
from harness import UsageError
from harness._util.yaml import read_yaml
from harness.cli import invoke
from harness.evaluation.settings import RunSettings
from harness.suites import run_file
from harness.suites.settings import TYPED

from ...helpers.running import one_thread

SMALL = ["--sinks", "2", "--recent", "40", "--chunk", "32"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(here, **content):
    path = here / "run.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def requested(here, **content):
    path = written(here, **content)
    return run_file.read(path, read_yaml(path))


def said(capsys, *words):
    status = invoke([str(w) for w in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_what_save_config_writes_is_the_same_run(here, tiny_folder, capsys):
    flags = ["--tasks", "passkey", "--set", "passkey.depths=0,50", "--limit", "1", "--device", "cpu"]
    words = ["run", "-m", "streaming", *SMALL, *flags, "--model", tiny_folder, "--json"]
    status, out, err = said(capsys, *words, "--save-config", "a/run.yaml")
    assert status == 0 and err.startswith("written to a/run.yaml"), err
    first = json.loads(out)
    again = json.loads(said(capsys, "run", "a/run.yaml", "--json")[1])
    assert (again["folder"], again["ran"], first["ran"]) == (first["folder"], 0, 1)
    python = harness.run(config="a/run.yaml")
    assert (str(python.folder), python.ran) == (first["folder"], 0)
    other = json.loads(said(capsys, "run", "a/run.yaml", "--json", "--recent", "50", "--limit", "2")[1])
    assert other["ran"] == 2 and other["folder"] != first["folder"]
    assert str(harness.run(config="a/run.yaml", recent=50, limit=2).folder) == other["folder"]
    status, out, _ = said(capsys, "run", "a/run.yaml", "-m", "plain", "--json")
    assert status == 0 and "/plain-" in json.loads(out)["folder"], (
        "another method leaves the options of the first"
    )
    # the same words again are no conflict; another run is
    assert said(capsys, *words, "--save-config", "a/run.yaml")[0] == 0
    two = [*words[: words.index("--limit") + 1], "2", *words[words.index("--limit") + 2 :]]
    status, _, err = said(capsys, *two, "--save-config", "a/run.yaml")
    assert status == 2 and "another file is there" in err


def test_every_flag_goes_through_a_file(here):
    """Each field of a run but those that only a person may say comes back as it was."""
    values = {bool: True, int: 3, float: 2.5, str: "x"}
    changed = {
        "method": "streaming",
        "options": {"sinks": "2"},
        "tasks": ("passkey", "niah"),
        "task_settings": {"passkey": {"depths": "0,50"}},
        "adapter": here / "adapter",
        "data_dir": here / "data",
        "out": here / "out",
        "context_length": 9,
        "max_context": 9,
        "limit": 9,
        "workers": 2,
        "batch_size": "auto",
        "sample_timeout": 1.5,
        "budget": "16MiB",
        "track": ("wandb",),
        "share": False,
        "address": "host:1",
        "device_map": "auto",
    }
    for each in dataclasses.fields(RunSettings):
        if each.name not in changed and each.name not in TYPED:
            changed[each.name] = values[type(each.default)]
    asked = RunSettings(**changed)
    path = here / "all.yaml"
    run_file.save([asked], path)
    [back] = run_file.read(path, read_yaml(path)).runs()
    assert back == asked


def test_flags_that_only_a_person_may_say_are_not_written(here):
    [left] = run_file.save([RunSettings(trust_remote_code=True)], here / "run.yaml")
    assert left == "trust_remote_code" and "trust" not in (here / "run.yaml").read_text()


def test_several_methods_with_options_of_their_own(here):
    asked = requested(
        here, methods=["plain", {"streaming": {"recent": 40}}, {"streaming": {"recent": 50}}], limit=3
    )
    runs = asked.over(settings={"limit": 5}).runs()
    assert [(r.method, r.options, r.limit) for r in runs] == [
        ("plain", {}, 5),
        ("streaming", {"recent": "40"}, 5),
        ("streaming", {"recent": "50"}, 5),
    ]
    typed = asked.over(["streaming"], {"recent": 60}).runs()
    assert {r.options["recent"] for r in typed} == {60}
    path = here / "again.yaml"
    run_file.save(runs, path)
    assert run_file.read(path, read_yaml(path)).runs() == runs


def test_options_may_stand_beside_the_rest(here):
    [run] = requested(here, method="streaming", recent=40, task="passkey", **{"batch-size": 2}).runs()
    assert (run.options, run.tasks, run.batch_size) == ({"recent": "40"}, ("passkey",), 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"method": "plain", "limti": 3}, "no key named 'limti'; did you mean 'limit'?"),
        ({"method": "two_pass", "alhpa": 3}, "no key named 'alhpa'; did you mean 'alpha'?"),
        (
            {"method": "two_pass", "options": {"alhpa": 3}},
            "no option of two_pass named 'alhpa'; did you mean 'alpha'?",
        ),
        ({"method": "plian"}, "no method named 'plian'; did you mean 'plain'?"),
        ({"method": "plain", "limit": "many"}, "limit: input should be a valid integer"),
        ({"method": "plain", "task": "passkey", "tasks": ["niah"]}, "tasks is there twice, under two names"),
        ({"method": "plain", "tasks": []}, "tasks: name at least one"),
        ({"method": ["plain", {"a": 1, "b": 2}]}, "is no method; write a name"),
        ({"method": "plain", "options": [1]}, "options: must be a mapping"),
        (
            {"method": "plain", "trust_remote_code": True},
            "only whoever runs a suite may say so: --trust-remote-code",
        ),
        ({"method": "plain", "plugin": "evil.py"}, "only whoever runs a file may say so: --plugin"),
        ({"task": "lm_eval:x", "set": {"lm_eval": {"include_path": "y"}}}, "files there may run code"),
        ({"limit": 3}, "names no method"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(here, capsys, content, words):
    path = written(here, **content)
    status, _, err = said(capsys, "run", path)
    assert status == 2 and err.startswith("harness: ") and words in err and err.count("\n") == 1, err
    assert "run.yaml" in err or "no method named" in err
    if "method" in content:
        with pytest.raises(UsageError):
            harness.run(config=path)


def test_arguments_over_a_file_are_checked(here):
    path = written(here, method="plain")
    with pytest.raises(UsageError, match=r"run\(config=...\) named 'limt'; did you mean 'limit'"):
        harness.run(config=path, limt=3)
    suite = here / "suite.yaml"
    suite.write_text("name: x\ntitle: y\n")
    with pytest.raises(UsageError, match="not the file of a run"):
        harness.run(config=suite)


def test_the_example_of_the_documentation(here):
    page = (Path(__file__).resolve().parents[3] / "docs" / "commands.md").read_text("utf-8")
    [text] = re.findall(r"<!-- run file -->\n```yaml\n(.*?)```", page, re.DOTALL)
    path = here / "run.yaml"
    path.write_text(text, encoding="utf-8")
    plain, streaming = run_file.read(path, read_yaml(path)).runs()
    assert (plain.method, plain.options, plain.limit, plain.tasks) == ("plain", {}, 20, ("passkey",))
    assert streaming.options == {"sinks": "4", "recent": "512"}


def test_the_help_of_a_file_shows_the_options_of_its_methods(here, capsys):
    written(here, methods=["two_pass", "streaming"])
    assert invoke(["run", "run.yaml", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--alpha" in shown and "--recent" in shown
