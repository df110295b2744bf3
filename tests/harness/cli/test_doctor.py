"""``harness doctor``: what is there, what is missing and its pip line, and who is broken."""

import json
from importlib import metadata

from harness.cli import _doctor, invoke

from ...helpers.running import with_entry_points


def test_it_says_what_is_there(capsys, empty_cache):
    assert invoke(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "torch " in shown and f"{empty_cache}: no model yet" in shown and "GiB" in shown
    assert invoke(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["environment"]["packages"]["torch"] == metadata.version("torch")
    assert found["memory"]["total"] > 2**28 and found["cache"]["free"] > 0
    assert found["broken"] == [] and not [row for row in found["missing"] if row["extra"] is None]
    assert not empty_cache.exists(), "it only looks"


def test_what_is_missing_comes_with_its_line(monkeypatch, capsys):
    wanted = ['jieba>=0.42; extra == "zh"', "torch>=2.6", "numpy>=1.26"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(_doctor, "_installed", lambda name: name == "numpy")
    assert list(_doctor.missing()) == [
        {"name": "jieba", "extra": "zh", "pip": "pip install 'long-context-harness[zh]'"},
        {"name": "torch", "extra": None, "pip": "pip install 'torch>=2.6'"},
    ]
    assert invoke(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "missing   torch (NEEDED): pip install 'torch>=2.6'" in shown
    assert "missing   jieba (optional, extra zh)" in shown


def test_a_broken_plugin_is_named_and_costs_the_exit_status(monkeypatch, capsys):
    with_entry_points(monkeypatch, ("harness.tasks", "gone", "no_such_module_anywhere:Thing"))
    assert invoke(["doctor", "--json"]) == 1
    [line] = json.loads(capsys.readouterr().out)["broken"]
    assert line.startswith("task 'gone' from an unknown distribution cannot be imported: ModuleNotFoundError")
