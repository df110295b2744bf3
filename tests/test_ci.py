"""What is written for CI: workflows whose commands and inputs are there, containers, hooks of new packages."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from harness.cli import VERBS, cli, invoke
from harness.testing.__main__ import main

from .helpers import making

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
IMAGES = sorted((ROOT / "containers").glob("*.Dockerfile"))
ON = True
"""What YAML 1.1 makes of the key ``on``."""


def workflow(path):
    return yaml.safe_load(path.read_text("utf-8"))


def steps(path):
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def parses(words):
    """Whether the command line takes these words of `harness`."""
    verb, *args = words
    assert verb in VERBS, words
    command = cli.get_command(click.Context(cli), verb)
    return command.make_context(f"harness {verb}", args)


def commands(path):
    """Commands of `harness` in the steps of a workflow, with its variables filled in."""
    whole = workflow(path)
    inputs = {k: v.get("default", "streaming") for k, v in whole[ON]["workflow_call"]["inputs"].items()}
    [job] = whole["jobs"].values()
    values = {
        k: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: inputs[m[1]], v) for k, v in job["env"].items()
    }
    values |= {"OPTIONS": "--sinks 4 --recent 256", "against": "baseline"}
    for step in job["steps"]:
        for line in step.get("run", "").splitlines():
            line = re.sub(r"\$(\w+)", lambda m: values[m[1]], line)
            words = shlex.split(line, comments=True)
            if words[:1] == ["harness"]:
                yield words[1:]


def test_the_reusable_workflow_runs_commands_that_there_are():
    found = list(commands(ROOT / ".github" / "workflows" / "method.yml"))
    assert [words[0] for words in found] == ["check", "run", "run", "compare", "report"]
    run = parses(found[1])
    assert run.params["methods"] == ("streaming",) and run.params["option_recent"] == "256"
    assert parses(found[3]).params["points"] == 5.0
    for words in found:
        parses(words)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflows_name_inputs_that_there_are_and_ask_for_no_rights(path):
    text, whole = path.read_text("utf-8"), workflow(path)
    given = (
        set((whole[ON].get("workflow_call") or {}).get("inputs", {}))
        if isinstance(whole[ON], dict)
        else set()
    )
    assert set(re.findall(r"\$\{\{ inputs\.(\w+)", text)) <= given
    assert whole["permissions"] == {"contents": "read"}
    for step in steps(path):
        assert "${{" not in step.get("run", "").replace("${{ matrix.", ""), (
            "an input in a script can run code: use env"
        )
        assert "uses" not in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


def step(name):
    """The script of a step of the reusable workflow."""
    [found] = [s["run"] for s in steps(ROOT / ".github/workflows/method.yml") if s.get("name") == name]
    return found


@pytest.fixture
def job(tmp_path):
    """A step as a runner runs it: `bash -e` in the job's folder, with the job's variables and `harness` on the PATH."""
    [whole] = workflow(ROOT / ".github/workflows/method.yml")["jobs"].values()
    inputs = workflow(ROOT / ".github/workflows/method.yml")[ON]["workflow_call"]["inputs"]
    values = {
        k: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: str(inputs[m[1]].get("default", "")), v)
        for k, v in whole["env"].items()
    }
    program = tmp_path / "bin" / "harness"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m harness "$@"\n', encoding="utf-8")
    program.chmod(0o755)

    def run(name, **given):
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PYTHONPATH": str(ROOT), **values, "METHOD": "streaming", **given, "PATH": path}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(name)]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def scored(out, method, scores):
    """A run of the grid that the workflow asks for, with these scores."""
    records = [
        making.record("passkey", f"s{i}", {"accuracy": 0.0, "fuzzy": score}) for i, score in enumerate(scores)
    ]
    making.write_run(out, method, records)


@pytest.mark.parametrize(("worse", "points", "status"), [(0.08, "5", 1), (0.08, "10", 0), (-0.08, "5", 0)])
def test_the_gate_is_red_where_a_method_is_worse_by_more_than_it_may_be(worse, points, status, job, tmp_path):
    """24 samples, as the workflow has: each of the method's is worse than the baseline's."""
    base = [0.1 + i / 100 for i in range(24)]
    scored(tmp_path / "baseline", "plain", base)
    scored(tmp_path / "runs", "streaming", [score - worse for score in base])
    done = job("Fail if it is worse", POINTS=points)
    assert done.returncode == status, done.stdout + done.stderr
    if status:
        assert "streaming is worse than plain by 8.0 points" in done.stdout
        page = job("Page of the run")
        assert page.returncode == 0 and (tmp_path / "report.html").is_file(), "which is made in any case"


def test_the_gate_is_red_for_a_recorded_baseline_too_and_where_there_is_no_run(job, tmp_path, monkeypatch):
    base = [0.1 + i / 100 for i in range(24)]
    scored(tmp_path / "good", "plain", base)
    scored(tmp_path / "runs", "streaming", [score - 0.08 for score in base])
    monkeypatch.chdir(tmp_path)
    assert invoke(["report", "good", "--record", "main"]) == 0
    assert job("Fail if it is worse", BASELINE="main").returncode == 1
    shutil.rmtree(tmp_path / "runs")
    gone = job("Fail if it is worse", BASELINE="main")
    assert gone.returncode == 2 and "runs" in gone.stderr


def test_the_example_of_the_documentation_gives_inputs_that_there_are():
    [text] = re.findall(
        r"<!-- workflow -->\n```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text("utf-8"), re.DOTALL
    )
    job = yaml.safe_load(text)["jobs"]["harness"]
    path = ROOT / job["uses"].partition("@")[0].partition("/")[2].partition("/")[2]
    inputs = workflow(path)[ON]["workflow_call"]["inputs"]
    assert set(job["with"]) <= set(inputs) and "method" in job["with"]
    page = (ROOT / "docs/ci.md").read_text("utf-8")
    assert all(f"`{name}`" in page for name in inputs)


def test_the_matrix_begins_with_the_oldest_python_that_is_supported():
    matrix = workflow(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == f">={matrix[0]}" and matrix == ["3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("path", IMAGES, ids=lambda p: p.name)
def test_images_install_the_pins_and_run_as_nobody_in_particular(path):
    text = path.read_text("utf-8")
    assert (
        "pip install -c constraints.txt ." in text
        and "\nUSER 1000\n" in text
        and 'ENTRYPOINT ["harness"]' in text
    )
    assert ("whl/cpu" in text) == (path.name == "cpu.Dockerfile")
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {".git", ".venv*"} <= set(ignored) and not {"baselines", "plugins", "constraints.txt"} & set(
        ignored
    )


@pytest.mark.parametrize(("kind", "entry"), [("method", "check"), ("task", "check"), ("report", None)])
def test_new_packages_have_hooks_that_run(kind, entry, tmp_path):
    assert invoke(["new", kind, "keep-ends", "--out", str(tmp_path), "--quiet"]) == 0
    [path] = tmp_path.rglob(".pre-commit-config.yaml")
    ruff, local = yaml.safe_load(path.read_text("utf-8"))["repos"]
    pinned = re.search(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)[1]
    assert ruff["rev"] == f"v{pinned}"
    [hook] = local["hooks"]
    words = shlex.split(hook["entry"])
    if entry is None:
        assert words == ["pytest", "-q"]
        return
    assert words[:2] == ["harness", entry] and words[-1] == "keep_ends" and hook["stages"] == ["pre-push"]
    parses([w if w != "keep_ends" else {"method": "streaming", "task": "passkey"}[kind] for w in words[1:]])


def test_a_tiny_model_is_made_by_one_command(tmp_path):
    from harness.models import loading

    assert main([str(tmp_path / "tiny"), "--window", "512"]) == 0
    assert loading.load(str(tmp_path / "tiny"), device="cpu").context_length == 512
