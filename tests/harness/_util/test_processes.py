"""What the environment says of processes that were started together, in whole, in part or wrongly."""

import pytest

from harness import UsageError
from harness._util.processes import MEETING, NUMBERS, launched
from harness.cli import invoke

ALL = dict(zip((*NUMBERS, *MEETING), ("1", "4", "1", "node", "29500")))


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ALL:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("said", "count"),
    [({}, 1), ({"LOCAL_RANK": "-1"}, 1), ({"RANK": "0", "WORLD_SIZE": "1"}, 1), (ALL, 4)],
)
def test_how_many_processes_there_are(monkeypatch, said, count):
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert launched() == count


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE is 'x', no number"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '', no number"),
        ({"LOCAL_RANK": "0"}, "but RANK and WORLD_SIZE and MASTER_ADDR and MASTER_PORT are not set"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "but LOCAL_RANK and MASTER_ADDR and MASTER_PORT are not set"),
        ({"RANK": "1"}, "but WORLD_SIZE and LOCAL_RANK and MASTER_ADDR and MASTER_PORT are not set"),
        ({**ALL, "RANK": "4"}, "RANK is 4, but WORLD_SIZE 4: they are counted from 0"),
        ({**ALL, "MASTER_PORT": ""}, "but MASTER_PORT is not set"),
    ],
)
def test_what_does_not_go_together_is_one_line_before_a_fit(monkeypatch, capsys, said, wrong):
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=wrong):
        launched()
    words = ["fit", "-m", "lora_experts", "--model", "nowhere/at/all", "--out", "o", "--data", "d.jsonl"]
    assert invoke(words) == 2
    err = capsys.readouterr().err
    assert wrong in err and err.count("\n") == 1
