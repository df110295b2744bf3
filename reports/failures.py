"""`failures`: what did not finish, what was cut, which answers were lost or stopped by the token limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from harness import Report
from harness.contracts import LoadedRun
from harness.contracts.record import Failure
from harness.documents import Cell, Column, Document, Row, Table

from ._rows import RUN, TASK, Member, footers, members, run_cell

TITLE = "Failures and truncation"
MANY = 16
"""Rows from which those without failures are folded."""
COLUMNS = (
    RUN,
    TASK,
    Column("n_ok", "n ok", kind="text"),
    Column("error", "error", format="d"),
    Column("oom", "out of memory", format="d"),
    Column("missing", "missing", format="d"),
    Column("truncated", "cut", "%", format=".0f"),
    Column("answer_lost", "lost", "%", format=".0f"),
    Column("hit_limit", "at limit", "%", format=".0f"),
    Column("errors", "what failed", kind="text"),
)


class Failures(Report):
    """Samples by state, and the shares that were cut, lost their answer, or hit the token limit."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        found = [m for run in runs for m in members(run)]
        if not found:
            return Document("failures", TITLE)
        told = [
            "cut: prompts that were truncated; lost: of the samples whose answer stood word for word in the text, "
            "those from which truncation removed it; at limit: answers stopped by the task's token limit",
            "missing: planned, and neither finished nor failed",
            *footers(runs),
        ]
        broken = [m for m in found if m.row["n_ok"] < m.row["n"]]
        whole = Table("failures", TITLE, COLUMNS, [Row(_cells(m)) for m in found], told)
        if len(found) <= MANY:
            return Document("failures", TITLE, [whole])
        whole = replace(whole, name="failures-tasks", title=f"{TITLE}, every task", folded=True)
        if not broken:
            return Document("failures", TITLE, [whole], notes=["Every sample of every run finished."])
        few = Table(
            "failures",
            "Tasks with samples that did not finish",
            COLUMNS,
            [Row(_cells(m)) for m in broken],
            told,
        )
        return Document("failures", TITLE, [few, whole])


def _cells(member: Member) -> dict[str, Cell]:
    row = member.row
    states = row.get("statuses", {})
    failed = [r for r in member.run.of_task(member.task).values() if not r.finished]
    kinds = Counter(_kind(r.error or Failure()) for r in failed)
    bad = sum(count for state, count in states.items() if state not in ("ok", "oom"))
    shares = {
        name: Cell(None if row.get(name) is None else 100 * row[name])
        for name in ("truncated", "answer_lost", "hit_limit")
    }
    return {
        "run": run_cell(member.run),
        "task": Cell(member.task),
        "n_ok": Cell(f"{row['n_ok']}/{row['n']}", n_ok=row["n_ok"], n=row["n"]),
        "error": Cell(bad),
        "oom": Cell(states.get("oom", 0)),
        "missing": Cell(row["n"] - sum(states.values())),
        **shares,
        "errors": Cell("; ".join(f"{count} × {kind}" for kind, count in kinds.most_common(3)) or None),
    }


def _kind(error: Failure) -> str:
    """An error in a few words: its type, and the beginning of what it said."""
    message = " ".join((error.message or "").split())
    return f"{error.type or 'unknown'}: {message[:80]}".rstrip(": ")
