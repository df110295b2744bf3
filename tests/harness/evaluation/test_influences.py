"""What changes answers changes the run's hash: the table, and what really happens."""

import dataclasses
import re
from pathlib import Path

import pytest

from harness.evaluation.influences import INFLUENCES, NO, ROUNDING, YES
from harness.evaluation.plan import plan_run
from harness.evaluation.settings import RunSettings
from harness.results.run_folder import identity_hash

from ...helpers.running import settings

ROOT = Path(__file__).resolve().parents[3]
NAMES = [word for row in INFLUENCES for word in re.split(r"[ ,]+", row.name)]
OF_FIELDS = {"options": "options of the method", "tasks": "--task", "task_settings": "--set"}


def test_no_row_says_yes_and_no():
    for row in INFLUENCES:
        assert not (row.answers == YES and not row.hashed), row
        assert not (row.hashed and row.answers != YES), f"a hash that changes for nothing: {row}"
        assert row.answers != ROUNDING or "run.json" in row.how, f"recorded nowhere: {row}"
    assert len({row.name for row in INFLUENCES}) == len(INFLUENCES)


def test_every_setting_of_a_run_stands_in_the_table():
    for field in dataclasses.fields(RunSettings):
        name = OF_FIELDS.get(field.name, f"--{field.name.replace('_', '-')}")
        assert any(name in row.name.split(", ") or row.name.startswith(name) for row in INFLUENCES), (
            field.name
        )


def test_every_variable_that_the_code_reads_stands_in_the_table():
    read = re.compile(r"environ(?:\.get\(|\.setdefault\(|\[)\s*\"([A-Z][A-Z0-9_]+)\"")
    named = re.compile(r"^[A-Z_]+ = \"((?:HARNESS|OPENAI|HF)_[A-Z0-9_]+)\"$", re.MULTILINE)
    found = set()
    for folder in ("harness", "plugins", "tasks", "reports", "baselines"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text("utf-8")
            found |= {*read.findall(text), *named.findall(text)}
    assert found and not found - set(NAMES)


SMALL = {"sinks": "2", "recent": "40", "chunk": "32"}
FEW = {"sinks": "2", "chunk": "32"}
CHANGES = {
    "method": ({"method": "streaming", "options": SMALL}, True),
    "options": ({"method": "streaming", "options": {**SMALL, "recent": "50"}}, True),
    "tasks": ({"tasks": ("passkey", "niah"), "task_settings": {"niah": {"lengths": "256"}}}, True),
    "task_settings": ({"task_settings": {"passkey": {"depths": "0,50"}}}, True),
    "context_length": ({"context_length": 200}, True),
    "max_context": ({"max_context": 100}, True),
    "truncate": ({"truncate": "left"}, True),
    "chat": ({"chat": "never"}, True),
    "budget": ({"method": "streaming", "options": FEW, "budget": 64}, True),
    "limit": ({"limit": 2}, False),
    "limit in batches": ({"limit": 2, "batch_size": 2}, True),
    "seed": ({"seed": 43}, True),
    "dtype": ({"dtype": "bfloat16"}, True),
    "device_map": ({"device_map": "auto"}, False),
    "batch_size": ({"batch_size": 2}, True),
    "query_agnostic": ({"method": "two_pass", "options": {"interval": "32"}, "query_agnostic": True}, True),
    "protocol": ({"method": "two_pass", "options": {"interval": "32"}, "protocol": "after"}, True),
    "share": ({"share": False}, False),
    "share in batches": ({"share": False, "batch_size": 2}, True),
    "data_dir": ({"data_dir": Path()}, False),
    "offline": ({"offline": True}, False),
    "sample_timeout": ({"sample_timeout": 60.0}, False),
    "join": ({"join": True}, False),
    "out": ({"out": Path("elsewhere")}, False),
    "trust_remote_code": ({"trust_remote_code": True}, True),
    "allow_unused_weights": ({"allow_unused_weights": True}, True),
    "skip_unavailable": ({"skip_unavailable": True}, False),
    "trust_task_code": ({"trust_task_code": True}, False),
}
"""Another value of each setting, and whether it is another run. Those it is held against share what comes with it."""
WITH = {
    "protocol": {"method": "two_pass", "options": {"interval": "32"}},
    "options": {"method": "streaming", "options": SMALL},
    "budget": {"method": "streaming", "options": FEW, "budget": 48},
    "limit in batches": {"batch_size": 2},
    "share in batches": {"batch_size": 2},
    "query_agnostic": {"method": "two_pass", "options": {"interval": "32"}},
}
ELSEWHERE = {
    "model": "tests of the model's hash",
    "adapter": "tests of adapters",
    "device": "one kind is here",
    "track": "tests of tracking",
    **dict.fromkeys(("engine", "workers", "address"), "tests of workers"),
}


def hash_of(tiny_folder, tmp_path, **changes):
    known = {"adapter": Path("none"), **changes}
    wanted = settings(tiny_folder, known.pop("out", tmp_path / "runs"), **known)
    return identity_hash(plan_run(wanted).identity)


def test_every_setting_is_tried():
    tried = {name.partition(" ")[0] for name in CHANGES} | set(ELSEWHERE)
    assert tried == {field.name for field in dataclasses.fields(RunSettings)}


@pytest.mark.parametrize("name", CHANGES)
def test_the_hash_changes_with_what_changes_answers(tiny_folder, tmp_path, name):
    changes, other = CHANGES[name]
    before = hash_of(tiny_folder, tmp_path, **WITH.get(name, {}))
    assert (hash_of(tiny_folder, tmp_path, **changes) != before) is other
    field = OF_FIELDS.get(name, f"--{name.partition(' ')[0].replace('_', '-')}")
    rows = [row for row in INFLUENCES if row.name.startswith(field)]
    if len(rows) > 1 and name.partition(" ")[0] in ("limit", "share"):
        rows = [row for row in rows if ("batches" in row.name) is ("batches" in name)]
    assert [row.hashed for row in rows] == [other] and rows[0].answers == (YES if other else NO)
