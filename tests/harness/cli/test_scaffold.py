"""``harness new``: what it writes installs, is listed, keeps to the contract and runs, without an edit."""

import json
import os
import subprocess
import sys

import pytest

from harness import UsageError
from harness.cli import _scaffold, invoke


def outside(*arguments, site="", folder):
    """Run Python in a process that has `site` on its path, as if what lies there were installed."""
    variables = {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


COMMANDS = """
import json, sys, pytest
from harness.cli import invoke
statuses = [invoke(words) for words in json.loads(sys.argv[1])]
sys.exit(any(statuses) or pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[2]]))
"""
"""Several commands of the harness in one process, and then the package's own tests: torch is imported once."""


@pytest.mark.parametrize("kind", ["method", "task"])
def test_what_it_writes_works_at_once(kind, tiny_folder, tmp_path, capsys):
    assert invoke(["new", kind, "keep-ends", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    project, site = tmp_path / "harness-keep-ends", tmp_path / "site"
    assert f"pip install -e {project}" in shown and "harness run --method" in shown
    assert sorted(p.name for p in project.iterdir()) == [
        ".pre-commit-config.yaml",
        "README.md",
        "harness_keep_ends.py",
        "pyproject.toml",
        "test_harness_keep_ends.py",
    ]
    install = [
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        site,
    ]
    outside(*install, project, folder=tmp_path)

    run = [
        "run",
        "--model",
        tiny_folder,
        "--device",
        "cpu",
        "--limit",
        2,
        "--json",
        "--out",
        tmp_path / "runs",
    ]
    if kind == "method":
        run += ["--method", "keep_ends", "--recent", 40]
        check = ["check", "keep_ends", "--recent", 40, "--only", "declared", "--json"]
    else:
        run += ["--method", "plain", "--task", "keep_ends"]
        check = ["check", "--task", "keep_ends", "--only", "scores", "--json"]
    commands = [[str(w) for w in words] for words in (["list", f"{kind}s", "--json"], run, check)]
    told = outside("-c", COMMANDS, json.dumps(commands), project, site=site, folder=tmp_path)

    listed, summary, checked = map(json.loads, told.splitlines()[:3])
    [row] = [row for row in listed[f"{kind}s"] if row["name"] == "keep_ends"]
    assert row["origin"] == "harness-keep-ends 0.1.0" and row["options"]
    [task] = summary["tasks"]
    assert (task["n_ok"], task["n"], task["verified"]) == (2, 2, True)
    assert checked["ok"] and len(checked["checks"]) == 1
    assert " passed" in told.splitlines()[-1], "its own test, which is the whole suite"


def test_a_report_it_writes_passes_its_own_test_and_shows_runs(tmp_path, capsys):
    from ...helpers import making

    files = _scaffold.write("report", "answer-lengths", tmp_path)
    project, runs = files[0].parent, tmp_path / "runs"
    making.write_run(runs, "plain", making.grid(0.5, trials=1))
    facts = project / "harness_answer_lengths-0.1.dist-info"  # what an installation would leave
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: harness-answer-lengths\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text(
        "[harness.reports]\nanswer_lengths = harness_answer_lengths:AnswerLengths\n"
    )
    commands = [
        ["list", "reports", "--json"],
        ["report", str(runs), "--kind", "answer_lengths", "--json"],
        ["report", str(runs), "--out", str(tmp_path / "page.html")],
    ]
    told = outside("-c", COMMANDS, json.dumps(commands), project, site=project, folder=tmp_path)
    listed = json.loads(told.splitlines()[0])
    shown = json.loads(told[told.index("{\n") : told.rindex("}\n") + 1])
    assert any(row["name"] == "answer_lengths" and row["options"] for row in listed["reports"])
    assert shown["reports"][0]["tables"][0]["rows"][0]["cells"]["run"]["value"] == "plain"
    assert "How long answers are" in (tmp_path / "page.html").read_text("utf-8"), "by default, as our own"


def test_a_recipe_it_writes_is_listed_and_passes_its_own_test(tmp_path):
    files = _scaffold.write("recipe", "lost-notes", tmp_path)
    project = files[0].parent
    facts = project / "harness_lost_notes-0.1.dist-info"  # what an installation would leave
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: harness-lost-notes\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text("[harness.recipes]\nlost_notes = harness_lost_notes:LostNotes\n")
    commands = [["list", "recipes", "--json"]]
    told = outside("-c", COMMANDS, json.dumps(commands), project, site=project, folder=tmp_path)
    listed = json.loads(told.splitlines()[0])
    [row] = [row for row in listed["recipes"] if row["name"] == "lost_notes"]
    assert row["origin"] == "harness-lost-notes 0.1.0" and row["tasks"] == {"recall": 100}
    assert "2 passed" in told.splitlines()[-1]


@pytest.mark.parametrize("kind", _scaffold.KINDS)
def test_what_it_writes_is_in_the_house_style(kind, tmp_path):
    files = _scaffold.write(kind, "keep_ends", tmp_path)
    project = files[0].parent
    for command in (["check", "--select", "E,F,W,I,UP,C4"], ["format", "--check"]):
        command = ["-m", "ruff", command[0], "--isolated", "--line-length", "110", *command[1:], "."]
        outside(*command, folder=project)
    assert not [path for path in files if "$" in path.read_text("utf-8")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("KeepEnds", "for instance keep_ends"),
        ("keep ends", "for instance keep_ends"),
        ("2fast", "a letter first"),
        ("a__b", "for instance a_b"),
        ("../up", "for instance up"),
        ("lambda", "is a word of Python itself"),
        ("plain", "a method named 'plain' is installed already"),
        ("two-pass", "a method named 'two_pass' is installed already"),
    ],
)
def test_names_that_would_not_do_are_refused(name, said, tmp_path):
    with pytest.raises(UsageError, match=said) as caught:
        _scaffold.write("method", name, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path, capsys):
    assert invoke(["new", "task", "mine", "--out", str(tmp_path)]) == 0
    module = tmp_path / "harness-mine" / "harness_mine.py"
    module.write_text("mine now")
    capsys.readouterr()
    assert invoke(["new", "method", "mine", "--out", str(tmp_path)]) == 2
    assert "harness-mine is there already; choose another name" in capsys.readouterr().err
    assert module.read_text() == "mine now"
