"""Processes that share a run share the cores."""

import os
import subprocess
import sys

import pytest
import torch

from harness.evaluation import cores
from harness.results.workers import Workers

HOLD = """
import sys
from harness.results.workers import Workers
file = open(sys.argv[1], "a+b")
held = Workers(file)
print(held.count(), flush=True)
sys.stdin.read()
"""


def test_processes_are_counted_as_they_come_and_go_and_are_killed(tmp_path):
    path = tmp_path / "workers"
    with path.open("a+b") as file:
        mine = Workers(file)
        assert mine.count() == 1
        others = [
            subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=-1, stdout=-1, text=True)
            for _ in range(3)
        ]
        seen = sorted(int(other.stdout.readline()) for other in others)
        assert seen[-1] == 4 and mine.count() == 4
        others[0].kill()
        others[0].wait()
        assert mine.count() == 3
        for other in others[1:]:
            other.communicate("")
        assert mine.count() == 1


@pytest.fixture
def eight_cores(monkeypatch):
    for name in cores.CHOSEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("workers", "threads"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_each_gets_an_equal_share(eight_cores, workers, threads):
    cores.share(workers, "cpu")
    assert torch.get_num_threads() == threads


def test_who_chose_the_threads_or_computes_elsewhere_is_left_alone(eight_cores, monkeypatch):
    torch.set_num_threads(3)
    cores.share(2, "cuda:0")
    assert torch.get_num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    cores.share(2, "cpu")
    assert torch.get_num_threads() == 3
