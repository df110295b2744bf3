"""The tutorial: its method does what the page says, and its commands exist."""

import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import UsageError, registry
from harness.cli import VERBS, _scaffold
from harness.testing import METHOD_CHECKS, check_method, tiny_model

from .harness.testing.broken_methods import OnlyTheFirst
from .test_docs import block, document

PAGE = "docs/your-own-method.md"
SMALL = partial(tiny_model, 256)


@pytest.fixture
def method(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_local_methods", {})
    path = tmp_path / "keep_ends.py"
    path.write_text(block(document(PAGE), "method") + "\n", encoding="utf-8")
    assert registry.register_file(path) == ["keep_ends"]
    return registry.method("keep_ends").cls


def test_its_method_is_short_and_keeps_to_the_contract(method):
    assert len(block(document(PAGE), "method").splitlines()) < 60
    found = {r.name: r for r in check_method(method, {"recent": 40}, model=SMALL)}
    assert not [r for r in found.values() if not r.ok]
    assert {r.name for r in found.values() if r.status != "ok"} == {"fit", "save"}
    ratios = [float(r) for r in found["declared"].reason.rpartition(": ")[2].split(", ")]
    assert min(ratios) > 3, "it compresses for real"


def test_it_keeps_what_the_page_says(method, tiny):
    """First-layer values depend on the token alone: they tell which tokens were kept."""
    import torch

    from harness.inference.forward import feed
    from harness.inference.kvcache import KVCache

    made = method(tiny, method.Options(sinks=3, recent=40))
    ids = [5 + (7 * i) % 400 for i in range(150)]
    cache = made.read(ids)
    [fresh], _ = feed(tiny.network, [KVCache()], [ids[:3] + ids[-40:]])
    torch.testing.assert_close(cache.values[0], fresh.values[0])
    torch.testing.assert_close(cache.keys[0], fresh.keys[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["task", "recipe", "report"])
def test_pages_show_what_new_writes(kind, tmp_path):
    """Which tests of the scaffold install, check and run; see `tests/harness/cli/test_scaffold.py`."""
    text = document(f"docs/your-own-{kind}.md")
    [name] = re.findall(rf"<!-- scaffold {kind} ([\w-]+) -->", text)
    files = {path.name: path.read_text("utf-8").rstrip() for path in _scaffold.write(kind, name, tmp_path)}
    module = f"harness_{name.replace('-', '_')}.py"
    assert block(text, f"scaffold {kind} {name}") == files[module]
    if "scaffold-test" in text:
        assert block(text, f"scaffold-test {kind} {name}") == files[f"test_{module}"]


def test_the_method_that_learns_is_saved_and_loaded(method, tmp_path, monkeypatch):
    """Its fit chooses by loss, and what it chose is what a run reads."""
    monkeypatch.setitem(sys.modules, "harness_keep_ends", SimpleNamespace(KeepEnds=method))
    path = tmp_path / "fitted_ends.py"
    path.write_text(block(document(PAGE), "learning") + "\n", encoding="utf-8")
    assert "fitted_ends" in registry.register_file(path)
    cls = registry.method("fitted_ends").cls
    found = check_method(cls, {"recent": 40}, only=["fit", "save"], model=SMALL)
    assert [r.status for r in found] == ["ok", "ok"], [r.reason for r in found]

    model = SMALL()
    made = cls(model, cls.Options(recent=40))
    monkeypatch.setattr(cls, "loss", lambda self, example: abs(self.sinks - 16.0))
    report = made.fit([None] * 3, None, cls.FitOptions())
    made.save(tmp_path / "adapter", {})
    again = cls(model, cls.Options(recent=40))
    again.load(tmp_path / "adapter")
    assert again.sinks == 16 and report.facts["losses"]["16"] == 0.0
    (tmp_path / "adapter" / "sinks.json").write_text("4")
    with pytest.raises(UsageError, match=r"sinks\.json is damaged"):
        again.load(tmp_path / "adapter")


def test_the_failure_it_shows_is_what_is_said():
    [found] = check_method(OnlyTheFirst, only=["every-sample"], model=SMALL)
    shown = " ".join(block(document(PAGE), "failure").split())
    assert re.sub(r"\d+", "N", shown) == re.sub(r"\d+", "N", f"{found.name}: {found.reason}")


def test_its_commands_exist():
    text = document(PAGE)
    verbs = re.findall(r"^harness (\w+)", text, re.MULTILINE)
    assert {"new", "list", "check", "run", "compare"} <= set(verbs) <= set(VERBS)
    checks = set(re.findall(r"--only ([\w-]+)", text))
    assert checks and checks <= {check.name for check in METHOD_CHECKS}
    assert len(METHOD_CHECKS) == 28 and "Twenty-eight checks" in text, "the page says how many"
    assert (Path(__file__).parent.parent / PAGE).is_file() and PAGE in document("README.md")
