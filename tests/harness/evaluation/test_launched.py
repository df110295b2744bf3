"""`--engine torchrun`: the records of one process, who says what, and what cannot be said in more than one line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import harness
from harness import UsageError
from harness.cli import invoke
from harness.evaluation import engines, launched, launched_leader, launched_meeting
from harness.evaluation.launched import Place
from harness.evaluation.launched_meeting import connected, hello, report
from harness.evaluation.launched_pool import launched_pool
from harness.evaluation.launched_worker import _made, own_gpu
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.evaluation.settings import RunSettings
from harness.evaluation.workers import expectations
from harness.models.shared import SharedModels

from ...helpers.launching import LAUNCH, launch
from ...helpers.running import Watcher
from .test_workers import told, wanted

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")
ACCELERATE = [
    *LAUNCH[:2],
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "-m",
    "harness",
]
SLOW = os.environ.get("HARNESS_SLOW_TESTS") == "1"


def words(folder, out, method="plain"):
    grid = ["--set", "passkey.lengths=110,200", "--set", "passkey.depths=0,50,100"]
    return ["run", "-m", method, "-t", "passkey", "--model", folder, "--device", "cpu", "--out", out, *grid]


def same_as_alone(tiny_folder, tmp_path):
    """Whether the run in the folder `two` is that of one process, made here."""
    plan = plan_run(wanted(tiny_folder, tmp_path / "one"))
    execute(plan, Watcher())
    [folder] = (tmp_path / "two").glob("plain-*")
    assert told(folder) == told(plan.folder.path) and folder.name == plan.folder.path.name
    content, by_one = (json.loads((f / "run.json").read_text()) for f in (folder, plan.folder.path))
    assert content["model"] == by_one["model"] and content["method_facts"] == by_one["method_facts"]
    assert execute(plan_run(wanted(tiny_folder, tmp_path / "two")), Watcher()).ran == 0, "the same run"


def test_two_processes_give_the_records_of_one(tiny_folder, tmp_path, monkeypatch, capsys, started):
    """This process is rank 0, the other one is started as a launcher would; the records of both are in order."""
    line = [*map(str, words(tiny_folder, tmp_path / "two")), "--engine", "torchrun"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with subprocess.Popen(
        [sys.executable, "-m", "harness", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RANK": "1", "WORLD_SIZE": "2"},
    ) as other:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert invoke(line) == 0, capsys.readouterr().err
        assert other.communicate(timeout=60)[0] == "" and other.returncode == 0
    said = capsys.readouterr().out
    assert "6 samples run" in said and "torchrun --nproc-per-node 2 -m harness run --method" in said
    same_as_alone(tiny_folder, tmp_path)


@pytest.mark.skipif(not SLOW, reason="HARNESS_SLOW_TESTS=1 runs it")
@pytest.mark.parametrize("engine", launched.LAUNCHERS)
def test_launchers_start_it(tiny_folder, tmp_path, engine):
    line = [*words(tiny_folder, tmp_path / "two"), "--engine", engine]
    done = launch(line, LAUNCH if engine == "torchrun" else ACCELERATE)
    assert done.stdout.count("6 samples run") == 1
    same_as_alone(tiny_folder, tmp_path)


# --- who says what


@pytest.fixture
def started(monkeypatch):
    """This process as rank 0 of three, which has the key-value store itself."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", str(port))):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setattr(launched_meeting, "PATIENCE", 20.0)
    return Place(0, 3, 0, 3)


def heard(connection):
    return json.loads(connection.recv_bytes())


def met(rank, token):
    """A connection of who says so to the leader of this process."""
    found = connected(socket.create_connection(("127.0.0.1", launched_leader.leader().port)))
    found.send_bytes(hello(rank, token))
    return found


def say(connection, **message):
    connection.send_bytes(json.dumps(message).encode())


def test_answers_are_told_apart_and_all_are_told_that_it_is_over(started, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(launched_leader.Leader, "begin", lambda self, beside: None)
    plan = plan_run(wanted(tiny_folder, tmp_path))
    expected = json.loads(json.dumps(expectations(plan)))
    with launched_leader.leading(started):
        own = met(0, launched_leader.leader().token)
        ranks = [own, *(report(replace(started, rank=rank)) for rank in (1, 2))]
        with launched_pool(replace(plan.settings, engine="torchrun"), "cpu", None, expected) as pool:
            workers = [pool.start() for _ in range(pool.size)]
            assert [worker.rank for worker in workers] == [0, 1, 2] and pool.size == 3
            told_to = heard(ranks[1])["run"]
            assert told_to["expected"] == expected and told_to["settings"]["engine"] == "local"
            first, second = (pool.ask(workers[1], [("passkey", name)], False) for name in "ab")
            assert heard(ranks[1]) == {"job": first, "keys": [["passkey", "a"]], "shared": False}
            say(ranks[1], job=first, answer={"records": ["of the run before"]})
            say(ranks[1], job=second, answer={"records": []})
            assert pool.next([second]) == (second, {"records": []}), "what came too late is passed over"
            third = pool.ask(workers[2], [], True)
            say(ranks[2], job=third, broken="KeyError: 'x'")
            with pytest.raises(RuntimeError, match=r"worker of rank 2 on .*: KeyError"):
                pool.next([third])
    assert heard(own)["run"] and heard(own) == {"over": True}


def test_a_worker_that_is_gone_or_another_version_is_named(started, monkeypatch):
    with pytest.raises(UsageError, match=r"worker of rank 1 on .* is gone; what is finished is kept"):  # noqa: SIM117
        with launched_leader.leading(started):
            one = report(replace(started, rank=1))
            leader = launched_leader.leader()
            stranger = met(2, "no such token")
            monkeypatch.setattr(launched_leader, "PATIENCE", 0.3)
            with pytest.raises(UsageError, match=r"1 of 3 processes did not report .*: rank 2$"):
                leader.links([1, 2])
            with pytest.raises((EOFError, ConnectionResetError)):
                stranger.recv_bytes()
            monkeypatch.setattr(launched_meeting, "__version__", "0.0.1")
            older = met(2, leader.token)
            with pytest.raises(UsageError, match=r"rank 2 on .* has harness 0\.0\.1"):
                leader.links([2])
            one.close()
            older.close()
            leader.heard([1])
    assert not launched.LEADERS


def test_a_request_is_the_same_at_a_worker(started):
    asked = RunSettings(
        tasks=("passkey", "niah"),
        adapter=Path("a") / "b",
        options={"ratio": 4, "ratios": [1, 2]},
        task_settings={"passkey": {"depths": [0, 50]}},
        budget="16MiB",
        sample_timeout=1.5,
        device="cpu",
    )
    sent = json.loads(json.dumps({"settings": asdict(asked), "plugin": None, "expected": {}}, default=str))
    assert _made(sent, started, SharedModels())._settings == asked


# --- devices


@pytest.mark.parametrize(
    "count, visible, rank, left",
    [
        (8, None, 3, "3"),
        (2, "4,GPU-7", 1, "GPU-7"),
        (1, "5", 3, "5"),
        (1, None, 1, None),
        (4, None, None, None),
    ],
)
def test_a_worker_sees_the_gpu_of_its_local_rank(monkeypatch, count, visible, rank, left):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    own_gpu(rank)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == left


def test_fewer_gpus_than_processes_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="LOCAL_RANK is 2, and it sees 2 GPUs"):
        own_gpu(2)


# --- what cannot be carried out


@pytest.mark.parametrize("engine", launched.LAUNCHERS)
def test_what_a_launcher_cannot_do_is_one_line(monkeypatch, engine):
    for name in launched.PLACE:
        monkeypatch.delenv(name, raising=False)
    for given, said in (
        ((None, None, False), rf"--engine {engine}: no launcher started this process .* --engine {engine}$"),
        ((None, None, True), f"--join and --engine {engine} are two ways"),
        ((2, None, False), "--workers belongs to --engine ray"),
        ((None, "auto", False), "--address belongs to --engine ray"),
        ((None, None, False, "cuda:1"), "--device cuda:1 is one GPU"),
    ):
        with pytest.raises(UsageError, match=said):
            engines.check(engine, *given)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="belongs to the command line"):
        harness.run("plain", model="nowhere", engine=engine)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert invoke(["run", "-m", "plain", "--engine", engine]) == 2


@pytest.mark.parametrize("verb", [["run", "-m", "plain", "-t", "passkey"], ["reproduce", "selflong"]])
def test_processes_that_would_all_do_everything_are_refused_once(monkeypatch, capsys, verb):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, status in (("0", 2), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert invoke([*verb, "--model", "nowhere/at/all"]) == status
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert (
        "2 processes were started together, and each would run everything: add --engine torchrun" in said.err
    )
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert invoke([*verb, "--model", "nowhere/at/all"]) == 2
    assert "nowhere/at/all" in capsys.readouterr().err, "one process is one process"


@pytest.mark.parametrize("device, left", [("auto", "1"), ("cpu", None), ("cuda:0", None)])
def test_processes_that_join_have_a_gpu_each(monkeypatch, device, left):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (
        ("RANK", "1"),
        ("LOCAL_RANK", "1"),
        ("WORLD_SIZE", "2"),
        ("CUDA_VISIBLE_DEVICES", ""),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert invoke(["run", "-m", "plain", "--join", "--model", "nowhere/at/all", "--device", device]) == 2
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == left


def test_an_engine_in_a_file_counts(monkeypatch, tmp_path, capsys):
    file = tmp_path / "run.yaml"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for engine, said in (("accelerate", "MASTER_ADDR and MASTER_PORT do not say"), ("ray", "each would run")):
        file.write_text(f"method: plain\nengine: {engine}\n")
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert invoke(["run", str(file)]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("port", ["65536", "x", ""])
def test_a_port_that_is_none_is_one_line(monkeypatch, port):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(UsageError, match="MASTER_ADDR and MASTER_PORT do not say where rank 0 is"):
        launched_meeting.store_of(Place(0, 1, 0, 1))


def test_an_address_that_nobody_has_is_one_line_at_once(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(launched_meeting, "PATIENCE", 1.0)
    monkeypatch.setenv("MASTER_ADDR", "nobody.invalid")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    with pytest.raises(UsageError, match=r"nobody\.invalid:29500, cannot be used: .*not known") as error:
        launched_meeting.store_of(Place(0, 1, 0, 1))
    assert "\n" not in str(error.value)


METHOD = """
import time
from harness.plugins.plain import Plain

class Slow(Plain):
    name = "slow"

    def compress(self, contexts, reserve, decoding):
        time.sleep(1)
        return super().compress(contexts, reserve, decoding)
"""


@pytest.mark.skipif(not SLOW, reason="HARNESS_SLOW_TESTS=1 runs it")
@pytest.mark.parametrize("rank, number", [(0, signal.SIGTERM), (0, signal.SIGKILL), (1, signal.SIGKILL)])
def test_all_end_when_one_is_ended_and_the_same_command_goes_on(tiny_folder, tmp_path, rank, number):
    (tmp_path / "slow.py").write_text(METHOD)
    line = [*words(tiny_folder, tmp_path / "runs", "slow"), "--plugin", tmp_path / "slow.py"]
    import psutil

    with subprocess.Popen(
        [*LAUNCH, *map(str, line), "--engine", "torchrun"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as launch:
        deadline = time.monotonic() + 120
        while not any(p.stat().st_size for p in (tmp_path / "runs").glob("*/samples.jsonl")):
            assert time.monotonic() < deadline and launch.poll() is None
            time.sleep(0.05)
        started = psutil.Process(launch.pid).children(recursive=True)
        [hit] = [p for p in started if p.environ().get("RANK") == str(rank) and p.ppid() == launch.pid]
        began = time.monotonic()
        hit.send_signal(number)
        said = launch.communicate(timeout=60)[1]
        assert launch.returncode and time.monotonic() - began < 20
        psutil.wait_procs(started, timeout=10)
    assert not [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert (rank == 0) or "worker of rank 1 on" in said
    [samples] = (tmp_path / "runs").glob("*/samples.jsonl")
    assert 0 < len(samples.read_text().splitlines()) < 6
    assert invoke([str(word) for word in line]) == 0
    assert len(samples.read_text().splitlines()) == 6
