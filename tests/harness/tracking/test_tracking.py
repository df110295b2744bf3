"""Trackers: what they are sent, that one that is down ends nothing, and each client offline where it is installed."""

import importlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness import UsageError
from harness.cli import invoke
from harness.contracts import tracker
from harness.evaluation.plan import plan_run
from harness.tracking import TRACKERS, Sender, sending, track_fit

from ...helpers.running import Watcher, one_thread, run, settings


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


class Recorder:
    """A tracker that keeps what it is told."""

    def __init__(self):
        self.calls = []

    def start(self, name, config, folder):
        self.calls.append(("start", name, dict(config)))

    def log(self, values, step):
        self.calls.append(("log", dict(values), step))

    def finish(self, summary, ok):
        self.calls.append(("finish", dict(summary), ok))


@pytest.fixture
def recorder(monkeypatch):
    """Stands in for wandb, installed or not."""
    found = Recorder()
    monkeypatch.setitem(TRACKERS, "wandb", lambda: found)
    monkeypatch.setitem(tracker.PACKAGES, "wandb", "json")
    return found


def test_a_run_sends_means_as_they_are_and_its_summary(recorder, tiny_folder, tmp_path):
    result, records = run(settings(tiny_folder, tmp_path, track=("wandb",)))
    (_, name, config), *logs, (last, summary, ok) = recorder.calls
    assert name == result.folder.path.name and config["method"] == "plain" and config["tasks"] == ["passkey"]
    assert str(tmp_path) not in json.dumps(config) and not any("prediction" in key for key in config)
    assert [step for _, _, step in logs] == [1, 2, 3]
    seconds = [r["cost"]["seconds"] for r in records.values()]
    assert logs[-1][1]["passkey/seconds"] == pytest.approx(sum(seconds) / 3)
    assert logs[-1][1]["passkey/failed"] == 0 and logs[0][1]["passkey/kv_tokens"] > 0
    assert (last, ok) == ("finish", True) and summary["summary/passkey/n_ok"] == 3
    assert summary["summary/passkey/accuracy"] == result.summary["tasks"][0]["score"]


def test_tracking_is_no_part_of_the_runs_identity(recorder, tiny_folder, tmp_path):
    plans = [plan_run(settings(tiny_folder, tmp_path, track=names)) for names in ((), ("wandb",))]
    assert plans[0].identity == plans[1].identity


def test_a_fit_sends_its_curve(recorder, tmp_path):
    class View:
        steps = 0

        def start(self, total, done):
            self.steps = total

        def step(self, step, loss, tokens, seconds):
            self.steps -= 1

    shown = View()
    request = {"model": "/somewhere/secret/m", "data": ["/somewhere/secret/a.jsonl:10"], "seed": 1}
    with track_fit(("wandb",), tmp_path / "adapter", request, shown) as view:
        view.start(2, 0)
        view.step(1, 3.0, 100, 2.0)
        view.step(2, 2.0, 100, 4.0)
        view.finished(2.5)
    (_, name, config), first, second, end = recorder.calls
    assert (name, shown.steps) == ("adapter", 0) and "secret" not in json.dumps(config)
    assert first == ("log", {"fit/loss": 3.0, "fit/tokens": 100.0, "fit/tokens_per_second": 50.0}, 1)
    assert second[1]["fit/loss"] == 2.0 and end == ("finish", {"summary/loss": 2.5}, True)


def test_a_fit_from_the_command_line_is_tracked(recorder, tiny_folder, tmp_path, capsys):
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": f"Ada signed it {i}. " * 60}) + "\n" for i in range(4)))
    words = [
        "fit",
        "-m",
        "rope_scaling",
        "--model",
        tiny_folder,
        "--device",
        "cpu",
        "--data",
        data,
        "--out",
        tmp_path / "a",
    ]
    words += [
        "--min-length",
        "10",
        "--max-length",
        "64",
        "--batch-size",
        "2",
        "--max-steps",
        "2",
        "--track",
        "wandb",
    ]
    status = invoke([str(w) for w in words])
    assert status == 0, capsys.readouterr().err
    assert [call[0] for call in recorder.calls] == ["start", "log", "log", "finish"]
    assert recorder.calls[1][1]["fit/loss"] > 0 and "summary/loss" in recorder.calls[-1][1]


@pytest.mark.parametrize("broken", ["start", "log", "finish"])
def test_a_tracker_that_is_down_ends_nothing(recorder, tiny_folder, tmp_path, capsys, broken, monkeypatch):
    def fail(*_):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(recorder, broken, fail)
    result, records = run(settings(tiny_folder, tmp_path, track=("wandb",)))
    assert len(records) == 3 and not result.failed
    said = "harness: wandb is left out from here on (ConnectionError: no route to host); the run goes on\n"
    assert capsys.readouterr().err == said


def test_a_tracker_that_hangs_holds_nothing_up(recorder, tiny_folder, tmp_path, capsys, monkeypatch):
    free = threading.Event()
    monkeypatch.setattr(recorder, "log", lambda *_: free.wait(60))
    monkeypatch.setattr(sending, "PATIENCE", 0.2)
    result, records = run(settings(tiny_folder, tmp_path, track=("wandb",)))
    free.set()
    assert len(records) == 3 and not result.failed
    assert "wandb has not answered for 0 s; it lacks the end of this run" in capsys.readouterr().err


def test_a_run_that_is_broken_off_is_told_so(recorder, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Watcher, "sample", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(settings(tiny_folder, tmp_path, track=("wandb",)))
    assert recorder.calls[-1] == ("finish", {}, False)


def test_after_a_failure_nothing_is_kept_for_it():
    told = []
    sender = Sender("x", lambda: (_ for _ in ()).throw(SystemExit(3)), told.append)
    sender._thread.join(5)
    sender.log({"a": 1.0}, 1)
    assert sender._calls.empty() and told == ["x is left out from here on (SystemExit: 3); the run goes on"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wandbb", "did you mean 'wandb'?"),
        ("mlflow", "--track mlflow needs mlflow: pip install 'long-context-harness[mlflow]'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(tiny_folder, tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(tracker, "find_spec", lambda package: None)
    with pytest.raises(UsageError) as error:
        run(settings(tiny_folder, tmp_path, track=(name,)))
    assert words in str(error.value) and not any(tmp_path.iterdir())


def test_a_run_without_trackers_imports_none(tiny_folder, tmp_path):
    code = (
        "import sys\nfrom harness.cli import invoke\n"
        f"status = invoke(['run', '-m', 'plain', '--model', {str(tiny_folder)!r}, '--device', 'cpu', '--limit', '1', "
        f"'--out', {str(tmp_path)!r}, '--quiet', '--json'])\n"
        "others = {'wandb', 'mlflow', 'trackio', 'tensorboard', 'openpyxl'}\n"
        "found = {m.partition('.')[0] for m in sys.modules} & others\n"
        "assert status == 0 and not found, found\n"
        "assert not any(m.startswith(('harness.tracking', 'harness.exchange')) for m in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def offline(name, tiny_folder, tmp_path, monkeypatch):
    """A run tracked by the real client, without a network."""
    pytest.importorskip(tracker.PACKAGES[name])
    monkeypatch.chdir(tmp_path)
    result, _ = run(settings(tiny_folder, tmp_path / "runs", track=(name,), limit=2))
    return result


def test_tensorboard_has_event_files(tiny_folder, tmp_path, monkeypatch, capsys):
    result = offline("tensorboard", tiny_folder, tmp_path, monkeypatch)
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(tmp_path / "runs" / "tensorboard" / result.folder.path.name))
    found.Reload()
    assert [e.step for e in found.Scalars("passkey/seconds")] == [1, 2]
    assert found.Scalars("summary/passkey/n_ok")[0].value == 2 and capsys.readouterr().err == ""


def test_mlflow_has_a_run_in_files(tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    result = offline("mlflow", tiny_folder, tmp_path, monkeypatch)
    assert capsys.readouterr().err == ""
    client = importlib.import_module("mlflow").MlflowClient()
    experiment = client.get_experiment_by_name("long-context-harness")
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == (result.folder.path.name, "FINISHED")
    assert found.data.params["method"] == "plain" and found.data.metrics["summary/passkey/n_ok"] == 2
    assert [m.step for m in client.get_metric_history(found.info.run_id, "passkey/seconds")] == [1, 2]


def test_wandb_keeps_a_run_offline(tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    result = offline("wandb", tiny_folder, tmp_path, monkeypatch)
    assert not result.failed and "left out" not in capsys.readouterr().err
    importlib.import_module(
        "wandb"
    ).teardown()  # as at the end of a process: what is in its own process is written
    [file] = Path(tmp_path).rglob("*.wandb")
    assert b"passkey/seconds" in file.read_bytes() and b"summary/passkey/n_ok" in file.read_bytes()


def test_trackio_keeps_a_run_on_this_machine(tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    result = offline("trackio", tiny_folder, tmp_path, monkeypatch)
    shown = capsys.readouterr()
    assert not result.failed and shown.out == "" and "left out" not in shown.err
    assert any(p.is_file() and p.stat().st_size for p in (tmp_path / "trackio").rglob("*"))
