"""Killed at any moment, the same command finishes the run: no sample twice, the scores of an undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import UsageError
from harness.cli import invoke
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.results.run_folder import RunFolder

from ...helpers.running import Watcher, answers, by_id, one_thread, settings, with_toy

SLOW = """
import time
from pathlib import Path

from harness.plugins.plain import Plain


class Slow(Plain):
    def compress_and_generate(self, prompts, decoding):
        found = super().compress_and_generate(prompts, decoding)
        time.sleep(0.15)
        return found
"""
SAMPLES = 10


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


# --- the real command, killed from outside


def kill_when(forks, words, reached, base):
    """Start, wait until `reached` says so, kill without warning."""
    pid = forks.start(words, base / "err")
    deadline = time.monotonic() + 60
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert forks.kill(pid) == -signal.SIGKILL, "it had ended before"


class Command:
    """One command line, started as often as it takes."""

    def __init__(self, base, model, forks):
        (base / "slow.py").write_text(SLOW)
        words = (
            "run -m slow -t passkey --set passkey.lengths=230,288 --set passkey.depths=0,20,40,70,100 --json"
        )
        self.words = [*words.split(), "--plugin", str(base / "slow.py"), "--model", str(model)]
        self.words += ["--device", "cpu", "--out", str(base / "runs")]
        self.runs = base / "runs"
        self.base, self.forks = base, forks

    def folder(self):
        return next(self.runs.iterdir())

    def lines(self):
        found = list(self.runs.glob("*/samples.jsonl"))
        return found[0].read_bytes().count(b"\n") if found else 0

    def kill_when(self, reached):
        """Start, wait until `reached` says so, kill without warning."""
        kill_when(self.forks, self.words, reached, self.base)

    def finish(self):
        out, err = self.base / "out", self.base / "err"
        status = self.forks.wait(self.forks.start(self.words, err, out))
        return status, out.read_text(), err.read_text()


def test_a_command_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path, tiny_folder, forks, capsys):
    command = Command(tmp_path, tiny_folder, forks)

    def after(samples, seconds=0.0):
        def reached():
            if command.lines() < samples:
                return False
            time.sleep(seconds)
            return True

        return reached

    command.kill_when(lambda: command.runs.exists())  # its folder is only just there
    command.kill_when(lambda: any(command.runs.glob("*/run.json")))  # before the weights are read
    command.kill_when(after(1))  # right after a sample
    command.kill_when(after(3, 0.07))  # between two
    samples = command.folder() / "samples.jsonl"
    samples.write_bytes(samples.read_bytes()[:-40])  # as if the kill had come while a line was written
    held = command.lines()
    command.kill_when(after(held + 2, 0.1))
    assert held + 2 <= command.lines() < SAMPLES
    status, out, err = command.finish()
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert 0 < result["ran"] < SAMPLES - held, "finished samples were kept"

    undisturbed = tmp_path / "undisturbed"
    assert invoke([*command.words[:-1], str(undisturbed)]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert answers(by_id(RunFolder(command.folder()))) == answers(by_id(RunFolder(Path(whole["folder"]))))
    assert len(RunFolder(command.folder()).records()) == SAMPLES == result["total"]["n_ok"]
    for name in ("score", "scores", "breakdown", "interval", "compression", "kv_bytes"):
        assert result["tasks"][0][name] == whole["tasks"][0][name]
    content = json.loads((command.folder() / "run.json").read_text())
    assert content["status"] == "finished" and content["summary"]["total"]["n_ok"] == SAMPLES


HOLD = """
import sys
from pathlib import Path
from harness.results.run_folder import RunFolder

with RunFolder(Path(sys.argv[1])).open():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_on_the_same_folder_leaves_everything_alone(tmp_path, tiny_folder, capsys):
    wanted = settings(tiny_folder, tmp_path, limit=1)
    folder = plan_run(wanted).folder.path
    words = ["run", "-m", "plain", "--model", str(tiny_folder), "--device", "cpu", "--limit", "1"]
    words += ["--out", str(tmp_path)]
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "held\n"
    assert invoke(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and [p.name for p in folder.iterdir()] == [".lock"]
    assert captured.err == f"harness: another process is working on {folder}; wait for it or stop it\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert invoke(words) == 0, "a lock never outlives its process"


# --- every single write to the disk, killed before, in the middle of and after it


class Killed(BaseException):
    """No handler for exceptions sees it, as none sees a SIGKILL."""


def killed_at(monkeypatch, write, moment):
    """Die at the `write`-th flush to the disk: just before it with half of the text there, or just after."""
    real, count = os.fsync, [0]

    def fsync(descriptor):
        count[0] += 1
        if count[0] == write and moment == "torn":
            size = os.fstat(descriptor).st_size
            whole = Path(f"/proc/self/fd/{descriptor}").read_bytes()
            last = whole.rstrip(b"\n").rfind(b"\n") + 1  # only what this write added is at risk
            os.truncate(descriptor, last + (size - last) // 2)
        else:
            real(descriptor)
        if count[0] == write:
            raise Killed

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture(scope="module")
def undisturbed(tiny_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        with_toy(patch)
        plan = plan_run(settings(tiny_folder, tmp_path_factory.mktemp("whole"), tasks=("toy",)))
        return execute(plan, Watcher())


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("moment", ["torn", "after"])
@pytest.mark.parametrize("write", range(1, 8))
def test_killed_at_each_write(tiny_folder, tmp_path, monkeypatch, undisturbed, write, moment, batch_size):
    with_toy(monkeypatch)
    wanted = settings(tiny_folder, tmp_path, tasks=("toy",), batch_size=batch_size)
    with monkeypatch.context() as patch:
        killed_at(patch, write, moment)
        with pytest.raises(Killed):  # seven writes: run.json, the prompt, four samples, run.json
            execute(plan_run(wanted), Watcher())
    plan = plan_run(wanted)
    kept = len(plan.folder.records())
    result = execute(plan, Watcher())
    assert result.ran == 4 - kept
    assert answers(by_id(result.folder)) == answers(by_id(undisturbed.folder))
    content = result.folder.read_run()
    assert content["status"] == "finished"
    assert content["summary"]["total"] == {"n": 4, "n_ok": 4, "failed": 0, "missing": 0}
    assert content["summary"]["tasks"][0]["score"] == undisturbed.summary["tasks"][0]["score"]


def test_killed_while_failed_lines_are_removed(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch, lambda sample, prediction: {"score": 7.0 if sample.id == "s1" else 1.0})
    wanted = settings(tiny_folder, tmp_path, tasks=("toy",))
    first = execute(plan_run(wanted), Watcher())
    whole = first.folder.samples_path.read_bytes()
    with_toy(monkeypatch, lambda sample, prediction: {"score": 1.0})
    with monkeypatch.context() as patch:
        killed_at(patch, 1, "torn")
        with pytest.raises(Killed):
            execute(plan_run(wanted), Watcher())
    assert first.folder.samples_path.read_bytes() == whole
    assert execute(plan_run(wanted), Watcher()).ran == 1


# --- lines that no kill can explain


def test_a_damaged_line_in_the_middle_is_refused_with_its_number(tiny_folder, tmp_path, monkeypatch, capsys):
    with_toy(monkeypatch)
    words = ["run", "-m", "plain", "-t", "toy", "--model", str(tiny_folder), "--device", "cpu"]
    words += ["--out", str(tmp_path)]
    assert invoke(words) == 0
    samples = next(tmp_path.iterdir()) / "samples.jsonl"
    lines = samples.read_bytes().splitlines(keepends=True)
    for damage in (lines[1][:50] + b"\n", b"\xff" + lines[1], b"[]\n", b'{"id": "s1", "task": "toy"}\n'):
        broken = b"".join([lines[0], damage, *lines[2:]])
        samples.write_bytes(broken)
        capsys.readouterr()
        assert invoke(words) == 2
        captured = capsys.readouterr()
        assert captured.err == (
            f"harness: {samples} line 2 is damaged; remove that line to run its sample again\n"
        )
        assert captured.out == "" and samples.read_bytes() == broken
    samples.write_bytes(b"".join([lines[0], *lines[2:]]))
    assert invoke([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ran"] == 1


def test_a_damaged_run_json_is_refused_in_one_line(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch)
    wanted = settings(tiny_folder, tmp_path, tasks=("toy",), limit=1)
    result = execute(plan_run(wanted), Watcher())
    (result.folder.path / "run.json").write_text("{")
    kept = result.folder.samples_path.read_bytes()
    with pytest.raises(UsageError, match=r"run\.json is damaged \(.*move the folder away"):
        execute(plan_run(wanted), Watcher())
    assert result.folder.samples_path.read_bytes() == kept
