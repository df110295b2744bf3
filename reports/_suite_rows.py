"""Rows of a suite's table: scores of a column's samples, from the records of a row's runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.contracts import LoadedRun, SampleRecord
from harness.stats import average_interval, confidence_interval

Key = tuple[int, str, str]
"""Seed, task and id: what makes two samples of two rows the same."""


class SuiteRow:
    """A row as the suite has recorded it, with its runs.

    Attributes
    ----------
    runs
        One for each seed; empty if the row is unavailable.
    """

    def __init__(self, recorded: Mapping[str, Any], runs: Sequence[LoadedRun]) -> None:
        self.id: str = recorded["id"]
        self.label: str = recorded["label"]
        self.model: str = recorded["model"]
        self.status: str = recorded["status"]
        self.why: str = recorded["why"]
        self.note: str | None = recorded["note"]
        self.published: str | None = recorded["published"]
        self.runs = runs

    @property
    def n(self) -> int:
        """Samples asked for."""
        return sum(run.planned for run in self.runs)

    @property
    def n_ok(self) -> int:
        """Samples finished."""
        return sum(run.n_ok for run in self.runs)


@dataclass(frozen=True)
class Measured:
    """A cell: the value and its interval x 100; None for both if a data set has no finished sample."""

    value: float | None
    interval: tuple[float, float] | None
    n_ok: int
    n: int


def measure(row: SuiteRow, column: Mapping[str, Any]) -> Measured | None:
    """The mean of the column's data sets, each weighing the same; None if the row was not asked any of them."""
    asked = [t for t in column["tasks"] if any(run.task(t) is not None for run in row.runs)]
    if not asked:
        return None
    strata = strata_of(row, column)
    n = sum(_planned(run, task, column) for run in row.runs for task in asked)
    scores = [list(strata[task].values()) for task in asked]
    n_ok = sum(map(len, scores))
    if not all(scores):
        return Measured(None, None, n_ok, n)
    value = sum(sum(s) / len(s) for s in scores) / len(scores)
    contexts = contexts_of(row, column)
    shared = [[contexts[key] for key in strata[task]] for task in asked]
    if len(scores) == 1:
        found = confidence_interval(scores[0], clusters=shared[0])
    else:
        found = average_interval(scores, clusters=shared)
    interval = None if found is None else (100 * found[0], 100 * found[1])
    return Measured(100 * value, interval, n_ok, n)


def strata_of(row: SuiteRow, column: Mapping[str, Any]) -> dict[str, dict[Key, float]]:
    """Scores 0..1 of the finished samples a column is about, by task and then by what makes them the same."""
    found: dict[str, dict[Key, float]] = {task: {} for task in column["tasks"]}
    for run in row.runs:
        seed = int(run.identity["seed"])
        for task in column["tasks"]:
            asked = run.task(task)
            if asked is None:
                continue
            metric = column["metric"] or asked.metric
            for name, record in run.of_task(task).items():
                if record.finished and _meant(record, column["where"]):
                    found[task][seed, task, name] = float(record.scores[metric])
    return found


def contexts_of(row: SuiteRow, column: Mapping[str, Any]) -> dict[Key, Hashable]:
    """What the samples of `strata_of` are questions about, by the same keys."""
    return {
        (int(run.identity["seed"]), task, name): record.text_hash or (task, name)
        for run in row.runs
        for task in column["tasks"]
        for name, record in run.of_task(task).items()
    }


def _planned(run: LoadedRun, task: str, column: Mapping[str, Any]) -> int:
    """Samples of a column that were asked for; of a part of a task only those that have a record are known."""
    asked = run.task(task)
    if asked is None:
        return 0
    if not column["where"]:
        return asked.planned
    return sum(_meant(record, column["where"]) for record in run.of_task(task).values())


def _meant(record: SampleRecord, where: Mapping[str, Any]) -> bool:
    facts = record.metadata
    return all(facts.get(name) == value for name, value in where.items())
