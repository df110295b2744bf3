"""Every code block of the documentation is run by something, or says here why nothing runs it."""

import json
import re
import sys
import tomllib
from types import ModuleType

import pytest

import harness
from harness.cli import invoke

from .test_docs import PAGES, ROOT, block, document

RUN = {
    "command: run": "tests/test_docs.py",
    "command: test": "tests/test_docs.py",
    "checks": "tests/test_docs.py",
    "kvpress": "tests/test_docs.py",
    "workflow": "tests/test_ci.py",
    "run file": "tests/harness/suites/test_run_file.py",
    "python": "tests/harness/test_api.py",
    "example": "tests/test_docs.py",
    "method": "tests/test_tutorial.py",
    "learning": "tests/test_tutorial.py",
    "failure": "tests/test_tutorial.py",
    "scaffold": "tests/test_tutorial.py",
    "scaffold-test": "tests/test_tutorial.py",
    "loaded model": "tests/test_examples.py",
    "conformance": "tests/test_examples.py",
    "own row": "tests/test_examples.py",
    "prediction": "tests/test_examples.py",
    "device map": "tests/harness/models/test_device_map.py",
}
"""Who runs the block between ``<!-- marker -->`` and the closing comment; markers may go on after such a name."""

SHOWN = {
    "first-table": "what the first run printed with the default model, which CI does not fetch",
    "layout": "the names of files in a folder",
}
"""Blocks that are nothing to be run."""

OUTSIDE = {
    r"(\.venv/bin/)?harness |.*\bharness (run|fit|view|doctor) ": (
        "parsed: test_every_command_of_the_documentation_parses"
    ),
    r"python3 -m venv \S+ && \S+/pip install (-q )?-c constraints\S*\.txt -e ": "as .ci/run types",
    r"uv venv && uv pip install -c constraints\.txt -e \. --torch-backend cpu$": "another installer, and a network",
    r"pip install (-e )?'?(long-context-harness|harness-[\w-]+)(\[\w+\])?'?( && pytest harness-[\w-]+)?$": (
        "extras: test_extras_are_there; packages of `harness new`: tests/harness/cli/test_scaffold.py"
    ),
    r"pip install build && python -m build harness-[\w-]+": "fetches setuptools; tests/test_wheel.py builds ours",
    r"pip install pre-commit && pre-commit install ": "the hooks themselves: tests/test_ci.py",
    r"docker (build|run) ": "no docker in CI; the images' files: tests/test_ci.py",
    r"vllm serve ": "a server of somebody else; tests/plugins/test_endpoint.py asks a stand-in",
    r"python tools/\w+\.py": "flags: test_tools_are_there_with_their_flags",
    r"\.venv/bin/zensical build --strict$": "CI runs it",
    r"python3 -m http\.server -d build/site$": "Python's own",
}
"""Lines of a shell, and who runs them or why nobody does."""

FENCE = re.compile(r"(?:^<!-- ([^>]*) -->\n)?^```(\w*)\n(.*?)^```", re.M | re.DOTALL)


def unknown(name, text):
    """The blocks of a page that nothing is known of."""
    found = []
    for match in FENCE.finditer(text):
        marker, kind, body = match.groups()
        where = f"{name}:{text[: match.start()].count(chr(10)) + 1} {kind} "
        if marker and marker.startswith("generated: "):
            continue  # tools/docs.py --check, which tests/test_docs.py runs
        if marker and (marker in RUN or marker.partition(" ")[0] in RUN or marker in SHOWN):
            continue
        if kind == "console" and name == "docs/troubleshooting.md":
            continue  # test_the_errors_of_the_documentation_are_real
        if kind == "bash":
            lines = [line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            found += [where + line for line in lines if not any(re.match(known, line) for known in OUTSIDE)]
        else:
            found.append(where + body.splitlines()[0])
    return found


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md", "SECURITY.md"])
def test_every_block_is_run_by_something(name):
    assert unknown(name, document(name)) == []


def test_a_block_that_nothing_runs_is_seen():
    text = "a\n```python\nx = 1\n```\n<!-- nobody -->\n```yaml\na: 1\n```\n```bash\nrm -r x\nharness list tasks\n```\n"
    assert unknown("a.md", text) == ["a.md:2 python x = 1", "a.md:5 yaml a: 1", "a.md:9 bash rm -r x"]


def test_whoever_runs_a_block_names_it_and_no_rule_is_left_over():
    everything = "".join(document(name) for name in [*PAGES, "CONTRIBUTING.md", "SECURITY.md"])
    lines = [
        line
        for body in re.findall(r"^```bash\n(.*?)^```", everything, re.M | re.DOTALL)
        for line in body.splitlines()
    ]
    for marker, path in RUN.items():
        assert f"<!-- {marker}" in everything, f"no block is marked {marker}"
        assert marker.rpartition(": ")[2] in (ROOT / path).read_text("utf-8"), (marker, path)
    for rule in OUTSIDE:
        assert any(re.match(rule, line) for line in lines), rule


def test_extras_are_there():
    project = tomllib.loads(document("pyproject.toml"))["project"]
    everything = "".join(document(name) for name in [*PAGES, "CONTRIBUTING.md"])
    named = set(re.findall(r"(?:long-context-harness|-e '\.)\[([\w,]+)\]", everything))
    assert len(named) > 5
    assert {extra for each in named for extra in each.split(",")} <= set(project["optional-dependencies"])


def test_the_page_on_installing_has_every_extra():
    project = tomllib.loads(document("pyproject.toml"))["project"]
    table = document("docs/installation.md").partition("## Extras")[2].partition("\n## ")[0]
    first = " ".join(re.findall(r"^\| (.*?) \|", table, re.M))
    assert set(re.findall(r"`([\w-]+)`", first)) == set(project["optional-dependencies"])


def test_tools_are_there_with_their_flags():
    lines = re.findall(r"^python (tools/\w+\.py)([^#\n]*)", "".join(map(document, PAGES)), re.M)
    assert lines
    for path, words in lines:
        text = document(path)
        assert all(f'"{flag}"' in text for flag in re.findall(r"--[\w-]+", words)), (path, words)


def test_a_loaded_model_runs_as_the_page_says(tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.testing import make_model

    folder = make_model(tmp_path / "tiny", max_position_embeddings=2048)
    network = AutoModelForCausalLM.from_pretrained(folder)
    known = {"harness": harness, "network": network, "tokenizer": AutoTokenizer.from_pretrained(folder)}
    monkeypatch.chdir(tmp_path)
    exec(block(document("docs/python.md"), "loaded model"), known)
    assert known["found"].ran == 3 and known["found"].folder.is_dir()


def test_three_lines_are_a_test_of_a_method(tmp_path, monkeypatch):
    from harness.testing import METHOD_CHECKS

    code = {name: block(document("docs/your-own-method.md"), name) for name in ("method", "conformance")}
    assert len([line for line in code["conformance"].splitlines() if line]) == 3
    package = ModuleType("harness_keep_ends")
    exec(code["method"], package.__dict__)
    monkeypatch.setitem(sys.modules, "harness_keep_ends", package)
    known: dict = {}
    exec(code["conformance"], known)
    [mark] = known["test_conformance"].pytestmark
    assert mark.args == ("check", [check.name for check in METHOD_CHECKS])
    known["test_conformance"]("options")


def test_rows_of_ones_own_are_read(tmp_path, monkeypatch, capsys, tiny_folder):
    page = document("docs/your-own-data.md")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hotpotqa.jsonl").write_text(block(page, "own row") + "\n", encoding="utf-8")
    (tmp_path / "predictions.jsonl").write_text(block(page, "prediction") + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    show = ["data", "show", "longbench/hotpotqa", "--data-dir", "mine", "--model", str(tiny_folder)]
    assert invoke(show) == 0
    shown = capsys.readouterr().out
    assert "Who signed the contract?" in shown and "Ada Lovelace" in shown
    assert invoke(["score", "predictions.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == {"longbench/trec": 100.0}
