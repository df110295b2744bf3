"""`summary`: one table over finished runs, from their records alone."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table

from harness import Report
from harness.records import RunFolder


class SummaryReport(Report):
    """A row for each run and task: score, interval, n_ok/n, measured compression."""

    def render(self, runs: Sequence[RunFolder]) -> RenderableType:
        from harness.display import number, score

        table = Table(box=box.SIMPLE_HEAD)
        for head in ("method", "task", "score [95 %]", "n ok", "ratio", "sees question", "hash"):
            table.add_column(head)
        for folder in runs:
            content = folder.read_run() or {}
            for row in content.get("summary", {}).get("tasks", ()):
                table.add_row(
                    content["method"]["name"],
                    row["task"],
                    score(row["score"], row["interval"]),
                    f"{row['n_ok']}/{row['n']}",
                    number(row["compression"], ".2f"),
                    "yes" if content["method"]["sees_question"] else "no",
                    content["hash"],
                )
        return table
