"""What a number is said to come from is where it comes from."""

import subprocess
from pathlib import Path

import pytest

from harness._util import environment

ROOT = Path(environment.__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not in a checkout")
def test_the_commit_is_the_checkouts():
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    environment.commit.cache_clear()
    found = environment.environment()["commit"]
    assert found.removesuffix("+changes") == head.stdout.strip()


def test_changes_are_said(monkeypatch):
    answers = {"rev-parse": "abc", "status": " M harness/options.py"}
    monkeypatch.setattr(environment, "_git", lambda root, *words: answers[words[0]])
    environment.commit.cache_clear()
    try:
        assert environment.commit() == ("abc+changes" if (ROOT / ".git").exists() else None)
    finally:
        environment.commit.cache_clear()


def test_the_processor_has_a_name_where_torch_knows_it(monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"cpu_name": "A processor"}, raising=False)
    assert environment.environment()["processor"] == "A processor"
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    monkeypatch.setattr("platform.processor", lambda: "")
    assert environment.environment()["processor"] is None
