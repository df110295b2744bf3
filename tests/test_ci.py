"""What is written for CI: workflows whose commands and inputs are there, containers, hooks of new packages."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from harness.cli import VERBS, cli, invoke
from harness.testing.__main__ import main

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
