"""Failed samples at the end of a run: each reason once, with how many it took."""

from harness.console.failures import MOST, reasons
from harness.contracts.record import Failure, SampleRecord


def failed(name, message, status="error"):
    return SampleRecord(
        id=name, task="passkey", status=status, error=Failure("RuntimeError", message, "m.py:3")
    )


def test_the_same_reasons_stand_together_the_most_frequent_first():
    records = [failed("a", "odd"), *(failed(f"b{i}", "no  room\nleft", "oom") for i in range(3))]
    records.append(SampleRecord(id="ok", task="passkey"))
    assert reasons(records) == [
        "failed (oom), 3 of passkey: RuntimeError: no room left (m.py:3); for instance b0",
        "failed (error), 1 of passkey: RuntimeError: odd (m.py:3); for instance a",
    ]


def test_many_reasons_and_long_ones_are_cut():
    lines = reasons(failed(str(i), f"{i} " + "x" * 100_000) for i in range(MOST + 4))
    assert len(lines) == MOST + 1 and all(len(line) < 400 for line in lines)
    assert lines[-1].startswith("failed for 4 other reasons: 4")
    assert reasons([SampleRecord(id="a", task="t", status="timeout")]) == [
        "failed (timeout), 1 of t: timeout; for instance a"
    ]
