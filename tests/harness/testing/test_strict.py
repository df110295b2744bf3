"""`harness check --strict`: two processes with other hash seeds, and no doubts."""

import json

import pytest

from harness.cli import invoke
from harness.testing import check_method, tiny_model

from .broken_methods import Keep

HASHED = """
from harness.plugins.streaming import Streaming

class Hashed(Streaming):
    \"\"\"Keeps as much as a hash says.\"\"\"
    def __init__(self, model, options):
        super().__init__(model, options.model_copy(update={"recent": 40 + hash("a") % 97}))
"""


@pytest.mark.parametrize(("method", "status"), [("hashed", 1)])
def test_answers_by_hashes_of_text_are_caught(tmp_path, capsys, monkeypatch, method, status):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "hashed.py").write_text(HASHED)
    words = [
        "check",
        method,
        "--plugin",
        str(tmp_path / "hashed.py"),
        "--only",
        "answers",
        "--strict",
        "--json",
    ]
    assert invoke(words) == status
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["checks"]}
    assert found["answers"]["status"] == "ok"
    assert found["seeds"]["status"] == "failed" and "hashlib" in found["seeds"]["reason"]


class Hangs(Keep):
    """Leaves a hook on the model while it answers."""

    def generate(self, states, questions, decoding):
        hook = self.model.network.model.norm.register_forward_hook(lambda *args: None)
        try:
            return super().generate(states, questions, decoding)
        finally:
            hook.remove()


@pytest.mark.parametrize(("strict", "status"), [(False, "ok"), (True, "failed")])
def test_doubts_are_failures_where_it_is_strict(strict, status):
    (found,) = check_method(Hangs, only=["declared"], model=lambda: tiny_model(256), strict=strict)
    assert found.status == status
    assert ("hooks" in found.reason) is strict


def test_strict_is_for_methods(capsys):
    assert invoke(["check", "--task", "passkey", "--strict"]) == 2
    assert "for methods" in capsys.readouterr().err
