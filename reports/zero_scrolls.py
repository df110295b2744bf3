"""`zero_scrolls`: the predictions of a run in the form that the leaderboard takes."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Report
from harness.contracts import LoadedRun
from harness.documents import Cell, Column, Document, Row, Table

FAMILY = "zero_scrolls/"


class ZeroScrolls(Report):
    """Task, id and prediction of every finished sample of ZeroSCROLLS, a table for each run."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        columns = [
            Column("Task", "Task", kind="name"),
            Column("ID", "ID", kind="name"),
            Column("Prediction", "Prediction", kind="text"),
        ]
        tables = []
        for run in runs:
            rows = [
                Row(
                    {
                        "Task": Cell(r.task.removeprefix(FAMILY)),
                        "ID": Cell(r.id),
                        "Prediction": Cell(r.prediction or ""),
                    }
                )
                for r in run.records.values()
                if r.finished and r.task.startswith(FAMILY)
            ]
            if rows:
                tables.append(
                    Table(f"zero-scrolls-{run.hash}", f"{run.label}: predictions", columns, rows, [])
                )
        return Document("zero_scrolls", "Predictions for ZeroSCROLLS", tables, [])
