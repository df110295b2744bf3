"""What our reports share: a run's rows, its name as a cell, the columns that say what a row is, and footers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import UsageError, registry
from harness.comparison.tables import run_cell
from harness.contracts import LoadedRun, SampleRecord
from harness.documents import Column
from harness.results import summarise
from harness.results.labels import shared_options, unsaid_options

__all__ = [
    "RUN",
    "TASK",
    "Member",
    "data_line",
    "footers",
    "limit_line",
    "members",
    "run_cell",
    "scaled",
    "summary",
    "truncation_line",
]

RUN = Column("run", "run", kind="name")
TASK = Column("task", "task", kind="name")


def summary(run: LoadedRun) -> dict[str, Any]:
    """The run's summary as it was written at its end; made now for one that was killed before that.

    A task that is not installed here cannot be summarised again: it has then no row.
    """
    found = run.content.get("summary")
    if found and {"tasks", "averages"} <= found.keys():  # else somebody has edited it
        return dict(found)
    tasks = []
    for task in run.tasks:
        family = task.name.partition("/")[0]
        try:
            [made] = registry.tasks([task.name], {family: dict(task.options)})
        except UsageError:
            continue
        made.recall(task.facts)
        tasks.append(made)
    planned = []
    for made in tasks:
        keys = [key for key in run.records if key[0] == made.name]
        asked = run.task(made.name)
        missing = max(0, (asked.planned if asked else 0) - len(keys))
        planned += keys + [(made.name, f"missing {i}") for i in range(missing)]
    return summarise(tasks, planned, run.records)


@dataclass(frozen=True)
class Member:
    """A task of a run: its row of the summary, and the records of its samples that finished."""

    run: LoadedRun
    row: Mapping[str, Any]

    @property
    def task(self) -> str:
        return str(self.row["task"])

    @property
    def finished(self) -> list[SampleRecord]:
        return [r for r in self.run.of_task(self.task).values() if r.finished]

    def score(self, record: SampleRecord) -> float:
        """The main score of one of its records, 0..1."""
        return float(record.scores[self.row["metric"]])


def members(run: LoadedRun) -> list[Member]:
    """The run's tasks, in its order."""
    return [Member(run, row) for row in summary(run)["tasks"]]


def scaled(interval: Sequence[float] | None, factor: float = 100.0) -> tuple[float, float] | None:
    """An interval in percent."""
    return None if interval is None else (factor * interval[0], factor * interval[1])


def footers(runs: Sequence[LoadedRun]) -> list[str]:
    """The data, the truncation rule and the hash behind a table's numbers, and what is to be said of a run."""
    lines = [data_line(runs), truncation_line(runs), *limit_line(runs)]
    lines.append("hashes: " + ", ".join(f"{run.label} {run.hash}" for run in runs))
    lines += [f"every {method} here: {options}" for method, options in shared_options(runs).items()]
    lines += [f"{label} with {options}" for label, options in unsaid_options(runs).items()]
    models = list(dict.fromkeys(run.model for run in runs))
    windows = sorted({int(w) for run in runs if (w := run.identity.get("context_length")) is not None})
    shown = f"window {' or '.join(f'{w:,}' for w in windows)} tokens" if windows else "window unknown"
    lines.append(f"model: {', '.join(models)}; {shown}; harness {_versions(runs)}")
    said: dict[str, list[str]] = {}
    for run in runs:
        for warning in run.warnings:
            said.setdefault(warning, []).append(run.label)
        for row in _summed(run):
            for note, count in row.get("notes", {}).items():
                said.setdefault(note, []).append(
                    f"{run.label} ({row['task']}: {count} of {row['n_ok']} samples)"
                )
    return lines + [f"! {', '.join(who)}: {warning}" for warning, who in said.items()]


def _summed(run: LoadedRun) -> list[dict[str, Any]]:
    """The rows of its summary; none of a run that cannot be summed up, which a table without them can still show."""
    try:
        return list(summary(run)["tasks"])
    except UsageError:
        return []


def data_line(runs: Sequence[LoadedRun]) -> str:
    """The tasks with their prompt protocols, samples and the hash of the prompts; as one where all agree."""
    parts = []
    for task in dict.fromkeys(t.name for run in runs for t in run.tasks):
        asked = {run.label: run.content.get("prompts", {}).get(task, {}) for run in runs if run.task(task)}
        hashes = Counter(str(facts.get("samples_hash", "not recorded")) for facts in asked.values())
        presets = "/".join(dict.fromkeys(str(facts.get("preset")) for facts in asked.values()))
        same = (
            f"prompts {next(iter(hashes))}"
            if len(hashes) == 1
            else f"{len(hashes)} different sets of prompts"
        )
        parts.append(f"{task} ({presets}, {same})")
    shown = parts if len(parts) <= 6 else [*parts[:5], f"and {len(parts) - 5} more tasks, see the JSON"]
    return "data: " + "; ".join(shown)


def limit_line(runs: Sequence[LoadedRun]) -> list[str]:
    """What `--limit` left out, of the runs that had one."""
    limits: dict[int, list[str]] = {}
    for run in runs:
        if limit := run.content["settings"].get("limit"):
            limits.setdefault(int(limit), []).append(run.label)
    shown = "; ".join(
        f"{n:,} samples of each task" + (f" ({', '.join(who)})" if len(who) < len(runs) else "")
        for n, who in limits.items()
    )
    return (
        [f"limited: at most {shown}, lengths and depths in turns; all others were not asked"]
        if limits
        else []
    )


def truncation_line(runs: Sequence[LoadedRun]) -> str:
    """How prompts were cut: one rule if all runs have the same."""
    rules: dict[str, list[str]] = {}
    for run in runs:
        limit = run.identity.get("max_context")
        cut = f"{run.identity['truncate']}, " + (f"to {limit:,} tokens" if limit else "to each task's limit")
        rules.setdefault(cut, []).append(run.label)
    if len(rules) == 1:
        return f"truncation: {next(iter(rules))}"
    return "truncation: " + "; ".join(f"{rule} ({', '.join(who)})" for rule, who in rules.items())


def _versions(runs: Sequence[LoadedRun]) -> str:
    return ", ".join(dict.fromkeys(str(run.identity.get("harness")) for run in runs))
