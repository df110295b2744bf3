"""`summary`: one table over finished runs, with the columns of the table at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Report
from harness._util.units import GIB, MIB
from harness.contracts import LoadedRun
from harness.contracts.phases import PHASES
from harness.documents import Cell, Column, Document, Mark, Row, Table

from ._rows import RUN, TASK, Member, footers, members, run_cell, scaled

COLUMNS = (
    RUN,
    TASK,
    Column("score", "score"),
    Column("n_ok", "n ok", kind="text"),
    Column("truncated", "cut", "%", format=".0f"),
    Column("answer_lost", "lost", "%", format=".0f"),
    Column("hit_limit", "at limit", "%", format=".0f"),
    Column("prompt_tokens", "tokens", format=",.0f"),
    Column("compression", "ratio", format=".2f"),
    Column("proved", "proved", kind="text"),
    Column("kv_mib", "KV", "MiB"),
    Column("peak_gib", "peak", "GiB", format=".2f"),
    *(Column(f"{phase}_seconds", phase, "s") for phase in PHASES),
    Column("status", "state", kind="text"),
)


class SummaryReport(Report):
    """A row for each run and task, with the columns of the table at the end of a run, and its state."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        rows = [Row(_cells(member)) for run in runs for member in members(run)]
        table = Table("summary", "Runs", COLUMNS, rows, footers(runs))
        return Document("summary", "Runs", [table] if rows else ())


def _cells(member: Member) -> dict[str, Cell]:
    row = member.row

    def number(name: str, scale: float = 1.0) -> Cell:
        return Cell(None if row.get(name) is None else row[name] / scale)

    remote = bool(row.get("remote"))

    def seen(name: str, scale: float = 1.0) -> Cell:
        """What was measured; of answers from elsewhere nobody could."""
        return Cell(text="?") if remote and row.get(name) is None else number(name, scale)

    declared = frozenset({Mark.DECLARED}) if row.get("verified") is False else frozenset()
    return {
        "run": run_cell(member.run),
        "task": Cell(member.task),
        "score": Cell(number("score", 0.01).value, scaled(row.get("interval")), n_ok=row["n_ok"], n=row["n"]),
        "n_ok": Cell(f"{row['n_ok']}/{row['n']}", n_ok=row["n_ok"], n=row["n"]),
        **{name: number(name, 0.01) for name in ("truncated", "answer_lost", "hit_limit")},
        "prompt_tokens": number("prompt_tokens"),
        "compression": Cell(text="?") if remote else Cell(row["compression"], marks=declared),
        "proved": Cell(None if row.get("proved") is None else f"{row['proved']}/{row['n_ok']}"),
        "kv_mib": seen("kv_bytes", MIB),
        "peak_gib": seen("peak_bytes", GIB),
        **{f"{phase}_seconds": seen(f"{phase}_seconds") for phase in PHASES},
        "status": Cell(member.run.status),
    }
