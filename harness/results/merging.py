"""Runs that are one and the same method in one and the same setting, on different tasks, as one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..contracts.record import Key, SampleRecord
from ..contracts.run import LoadedRun


def merged(runs: Sequence[LoadedRun]) -> list[LoadedRun]:
    """Runs of one label joined, in the order in which the labels first come.

    `harness.results.labels.labelled` gives two runs one label only if they differ in nothing but their tasks. Reports
    then show them as one row. The joined hash names both; a state other than finished, and a warning, is
    the whole's.
    """
    by_label: dict[str, list[LoadedRun]] = {}
    for run in runs:
        by_label.setdefault(run.label, []).append(run)
    return [parts[0] if len(parts) == 1 else _joined(parts) for parts in by_label.values()]


def _joined(parts: Sequence[LoadedRun]) -> LoadedRun:
    contents = [part.content for part in parts]
    content: dict[str, Any] = dict(contents[0])
    content["hash"] = " + ".join(str(c["hash"]) for c in contents)
    content["identity"] = {
        **contents[0]["identity"],
        "tasks": [task for c in contents for task in c["identity"]["tasks"]],
    }
    content["prompts"] = {name: facts for c in contents for name, facts in c["prompts"].items()}
    if all("planned" in c for c in contents):
        content["planned"] = {name: ids for c in contents for name, ids in c["planned"].items()}
    if stale := next((c["stale"] for c in contents if "stale" in c), None):
        content["stale"] = stale
    for name in ("summary_of", "summary_sum"):  # of the first alone
        content.pop(name, None)
    content["status"] = next((c["status"] for c in contents if c["status"] != "finished"), "finished")
    facts = [c.get("method_facts") or {} for c in contents]
    content["method_facts"] = next((f for f in facts if f.get("warning")), facts[0])
    content.pop("summary", None)
    if all(c.get("summary") for c in contents):
        content["summary"] = _summaries([c["summary"] for c in contents])
    records: dict[Key, SampleRecord] = {}
    for part in parts:
        records |= part.records
    return replace(
        parts[0], content=content, records=records, source=" + ".join(part.source for part in parts)
    )


def _summaries(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows of all; averages only of families that one part has whole, for those of parts are of fewer sets."""
    owners: dict[str, set[int]] = {}
    for number, each in enumerate(found):
        for row in each["tasks"]:
            owners.setdefault(row["task"].partition("/")[0], set()).add(number)
    return {
        "tasks": [row for each in found for row in each["tasks"]],
        "averages": {
            family: average
            for each in found
            for family, average in each["averages"].items()
            if len(owners[family]) == 1
        },
        "total": {
            name: sum(each["total"].get(name, 0) for each in found)
            for name in ("n", "n_ok", "failed", "missing")
        },
    }
