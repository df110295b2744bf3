"""Runs from Python: the same runs as the command line's, strict about arguments, and quick to import."""

import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness import UsageError
from harness.cli import invoke

from ..helpers.running import one_thread

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture
def tiny_run(tiny_folder, tmp_path):
    def call(**changes):
        wanted = {"model": tiny_folder.as_posix(), "out": tmp_path / "runs", "device": "cpu", "limit": 2}
        return harness.run(**{**wanted, **changes})

    return call


def test_a_run_is_the_command_lines_run(tiny_run, tiny_folder, tmp_path, capfd):
    found = tiny_run(method="beacon", interval=32, ratio=8, task_settings={"passkey": {"depths": [0, 50]}})
    assert capfd.readouterr() == ("", "")
    assert (found.ran, found.failed, found.unavailable) == (2, 0, {})
    assert found.summary["tasks"][0]["n_ok"] == 2
    words = ["run", "-m", "beacon", "--interval", "32", "--ratio", "8", "--set", "passkey.depths=0,50"]
    words += ["--limit", "2", "--device", "cpu", "--model", str(tiny_folder), "--out", str(tmp_path / "runs")]
    assert invoke([*words, "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed.pop("folder") == str(found.folder)
    assert printed.pop("ran") == 0, "every sample was there"
    assert printed.pop("unavailable") == {} and printed == found.summary


def test_data_frames(tiny_run, tmp_path):
    first = tiny_run(method="plain")
    second = tiny_run(method="streaming", sinks=4, recent=64, chunk=32, task=["passkey"])
    frame = first.to_pandas()
    assert list(frame["method"]) == ["plain", "plain"] and list(frame["status"]) == ["ok", "ok"]
    assert frame["score.accuracy"].mean() == first.summary["tasks"][0]["score"]
    runs = harness.load_runs(tmp_path / "runs")
    assert isinstance(runs, list) and {run.hash for run in runs} == {
        first.load().hash,
        second.load().hash,
    }
    both = runs.to_pandas()
    assert len(both) == 4 and set(both["run"]) == {run.label for run in runs}
    assert harness.load_runs([first.folder]).to_pandas().equals(frame)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limt": 3}, "no argument of run(method='plain') named 'limt'; did you mean 'limit'?"),
        ({"method": "two_pass", "alhpa": 3}, "run(method='two_pass') named 'alhpa'; did you mean 'alpha'?"),
        ({"tasks": "passkey"}, "named 'tasks'; did you mean 'task'?"),
        ({"method": "two_pas"}, "no method named 'two_pas'; did you mean 'two_pass'?"),
        ({"limit": "many"}, "run(limit='many'): input should be a valid integer"),
        ({"limit": 0}, "--limit must be at least 1, not 0"),
        ({"task_settings": {"passkey": 3}}, "run(task_settings.passkey=3): input should be a valid dict"),
        ({"method": "two_pass", "alpha": -1}, "option alpha=-1: input should be greater than 0"),
        ({"plugin": "no/such.py"}, "no/such.py: no such file"),
    ],
)
def test_what_is_wrong_is_said(tiny_run, tmp_path, given, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        tiny_run(**given)
    assert not (tmp_path / "runs").exists()


def test_importing_the_package_imports_nothing_heavy_and_names_what_is_there():
    code = (
        "import sys, harness; before = set(sys.modules); assert {'run', 'load_runs'} <= set(dir(harness)); "
        "print(sorted({'torch', 'pandas', 'transformers', 'numpy', 'rich', 'harness.api'} & before)); "
        "print(harness.run.__module__, harness.load_runs.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "harness.api._run harness.results.loading"]
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        _ = harness.rum


def test_the_example_of_the_documentation(tmp_path, tiny_folder, monkeypatch, capfd):
    """As it stands, but for the model, which is made here, and the intervals that fit its window."""
    [code] = re.findall(r"<!-- python -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert 5 <= len(code.splitlines()) <= 8
    here = f'model="{tiny_folder}", interval=32, retrieval="bm25", device="cpu"'
    assert code.count('model="smollm2"') == 1
    (tmp_path / "example.py").write_text(code.replace('model="smollm2"', here))
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py")
    captured = capfd.readouterr()
    assert captured.err == ""
    first, *table = captured.out.splitlines()
    assert re.fullmatch(r"[\d.]+ in runs/two_pass-\S+", first)
    assert "score.accuracy" in table[-1] and any(line.startswith("two_pass ") for line in table)


@pytest.mark.parametrize(
    ("line", "now"),
    [
        ("from harness.kvcache import KVCache, decode, feed, moved, stop_reason", "harness.inference"),
        ("from harness.measure import phase", "harness.inference"),
        ("from harness.runs import LoadedRun, load_runs", "harness.results and harness.contracts"),
        ("from harness.lm_eval_model import register", "harness.interop"),
        ("from harness.method import Decoding, Method", "harness.contracts"),
    ],
)
def test_imports_of_earlier_versions_work_and_say_where_it_is_now(line, now):
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", line], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"DeprecationWarning: {line.split()[1]} is now {now}" in done.stderr


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"harness\.nothing"):
        importlib.import_module("harness.nothing")
