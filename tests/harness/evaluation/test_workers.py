"""`--engine ray`: the same records as one process, workers that die replaced, what cannot be said in one line."""

import importlib.util
import json
import os
import signal
import socket
from dataclasses import replace
from importlib import metadata

import pytest

from harness import UsageError
from harness.errors import MeasurementError
from harness.evaluation import engines, runner, workers
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.evaluation.workers import SampleWorker, expectations

from ...helpers.running import Watcher, settings

GRID = {"task_settings": {"passkey": {"lengths": "110,200", "depths": "0,50,100"}}}


def wanted(folder, out, **changes):
    return settings(folder, out, tasks=("passkey",), **GRID, **changes)


def told(path):
    """Each line as it stands in the file, but for its times, memory and checksum."""
    found = []
    for line in (path / "samples.jsonl").read_text().splitlines():
        record = json.loads(line)
        record.pop("crc32")
        record["cost"] = {k: v for k, v in record["cost"].items() if "seconds" not in k and k != "peak_bytes"}
        found.append(json.dumps(record))
    return found


class HerePool:
    """A pool whose workers live in this process; the last job asked is done first, and some workers die."""

    def __init__(self, given, size=3, dies=()):
        self.size, self.given, self.dies, self.asked, self.started = size, given, set(dies), 0, 0

    def start(self):
        self.started += 1
        return SampleWorker(*self.given)

    def ask(self, worker, keys, shared):
        self.asked += 1
        return (self.asked, worker, tuple(keys), shared)

    def next(self, jobs):
        number, worker, keys, shared = job = max(jobs, key=lambda job: job[0])
        return job, None if number in self.dies else worker.ask(keys, shared)


def pooled(monkeypatch, **made):
    """Let `--engine ray` use a `HerePool`; returns where the pool will be."""
    pools = []

    class Held:
        def __init__(self, wanted, device, plugin, expected):
            pools.append(HerePool((replace(wanted, engine="local"), plugin, expected), **made))

        def __enter__(self):
            return pools[-1]

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(runner, "ray_pool", Held)
    monkeypatch.setattr(engines, "check", lambda *asked: None)
    return pools


@pytest.fixture(scope="module")
def alone(tiny_folder, tmp_path_factory):
    plan = plan_run(wanted(tiny_folder, tmp_path_factory.mktemp("alone")))
    execute(plan, Watcher())
    return plan.folder.path


@pytest.mark.parametrize("dies", [(), (1,), (2, 4, 5)])
def test_the_records_are_those_of_one_process_also_where_workers_die(
    tiny_folder, tmp_path, monkeypatch, alone, dies
):
    pools = pooled(monkeypatch, dies=dies)
    result = execute(plan_run(wanted(tiny_folder, tmp_path, engine="ray")), Watcher())
    assert told(result.folder.path) == told(alone) and result.folder.path.name == alone.name
    assert pools[0].started >= 3 + bool(dies) and result.ran == 6
    content, by_one = (
        json.loads((result.folder.path / "run.json").read_text()),
        json.loads((alone / "run.json").read_text()),
    )
    assert content["model"] == by_one["model"] and content["method_facts"] == by_one["method_facts"]
    assert execute(plan_run(wanted(tiny_folder, tmp_path)), Watcher()).ran == 0, (
        "another engine is the same run"
    )


def test_a_sample_that_kills_its_workers_fails_and_the_others_do_not(tiny_folder, tmp_path, monkeypatch):
    pools = pooled(monkeypatch, size=1, dies=range(1, 1 + workers.DEATHS))
    result = execute(plan_run(wanted(tiny_folder, tmp_path, engine="ray")), Watcher())
    assert (
        result.failed == 1 and result.summary["total"]["n_ok"] == 5 and pools[0].started == 1 + workers.DEATHS
    )
    [bad] = [r for r in result.folder.records() if r.status != "ok"]
    assert "3 workers died" in bad.error.message


def test_what_was_finished_is_kept_when_a_worker_cannot_go_on(tiny_folder, tmp_path, monkeypatch):
    pools = pooled(monkeypatch, size=1)
    real = SampleWorker.ask

    def refusing(self, keys, shared):
        return (
            {"refused": "worker on here: its disk is full"}
            if pools[0].asked > 2
            else real(self, keys, shared)
        )

    monkeypatch.setattr(SampleWorker, "ask", refusing)
    plan = plan_run(wanted(tiny_folder, tmp_path, engine="ray"))
    with pytest.raises(UsageError, match="its disk is full"):
        execute(plan, Watcher())
    assert len(plan.folder.records()) == 2 and plan.folder.read_run()["status"] == "interrupted"
    monkeypatch.setattr(SampleWorker, "ask", lambda self, keys, shared: {"caught": "it lied"})
    with pytest.raises(MeasurementError, match="it lied"):
        execute(plan_run(wanted(tiny_folder, tmp_path, engine="ray")), Watcher())


def test_a_worker_that_is_not_alike_says_so(tiny_folder, folder, tmp_path):
    plan = plan_run(wanted(tiny_folder, tmp_path))
    key, expected = plan.samples[0].key, expectations(plan)

    def refusal(settings, **changes):
        return SampleWorker(settings, None, {**expected, **changes}).ask([key], False)["refused"]

    older = {**expected["versions"], "torch": "2.0.0"}
    assert "the process that started it has 2.0.0; install the same" in refusal(plan.settings, versions=older)
    assert "gone" in refusal(replace(plan.settings, model=str(tmp_path / "gone")))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    assert "its model hash is another" in refusal(replace(plan.settings, model=str(folder)))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"workers": 2}, "--workers belongs to --engine ray"),
        ({"address": "auto"}, "--address belongs to --engine ray"),
        ({"engine": "dask"}, "choose local, ray, torchrun or accelerate"),
        ({"engine": "ray", "workers": 0}, "--workers must be 1 to"),
        ({"engine": "ray", "join": True}, "two ways of sharing out a run"),
        ({"engine": "ray", "address": "nowhere"}, "give HOST:PORT"),
        ({"engine": "ray", "address": "ray://127.0.0.1:1"}, "nobody answers there"),
    ],
)
def test_what_no_engine_can_do_is_one_line(tiny_folder, tmp_path, monkeypatch, changes, said):
    monkeypatch.setattr(metadata, "version", lambda name: "2.40.0" if name == "ray" else "1.0")
    with pytest.raises(UsageError, match=said):
        plan_run(wanted(tiny_folder, tmp_path, **changes))


def test_ray_missing_or_old_is_one_line(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(UsageError, match=r"needs Ray: pip install 'long-context-harness\[ray\]'"):
        engines.check("ray", None, None, False)
    monkeypatch.setattr(metadata, "version", lambda name: "1.13.0")
    with pytest.raises(UsageError, match=r"needs Ray 2\.9 or newer, not 1\.13\.0"):
        engines.check("ray", None, None, False)
    monkeypatch.setattr(metadata, "version", lambda name: "2.40.0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        engines.check("ray", None, f"127.0.0.1:{server.getsockname()[1]}", False)


SLOW = os.environ.get("HARNESS_SLOW_TESTS") == "1" and importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(not SLOW, reason="HARNESS_SLOW_TESTS=1 starts real Ray actors")
@pytest.mark.parametrize("count, killed", [(2, False), (4, False), (4, True)])
def test_ray_actors_give_the_records_of_one_process(tiny_folder, tmp_path, alone, count, killed):
    children = []

    class Killer(Watcher):
        def sample(self, task, record):
            if killed and not children:
                import psutil

                mine = psutil.Process().children(recursive=True)
                actors = [p for p in mine if "SampleWorker" in " ".join(p.cmdline())]
                children.append(actors[0].pid)
                os.kill(actors[0].pid, signal.SIGKILL)

    asked = wanted(tiny_folder, tmp_path, engine="ray", workers=count)
    result = execute(plan_run(asked), Killer())
    assert told(result.folder.path) == told(alone) and bool(children) == killed
