"""Runs of other tools as runs of ours: the same folders, so that they are compared and shown alike."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import registry
from .._version import __version__
from ..contracts.record import Key, SampleRecord
from ..contracts.run import LoadedRun
from ..contracts.task import Task
from ..errors import UsageError, unknown_name
from ..results.run_folder import SCHEMA, RunFolder, folder_name, identity_hash
from ..results.summary import digest, summarise
from . import lm_eval_files, scored_rows
from .foreign import Imported, ImportedTask

SOURCES: dict[str, Callable[[Path], Imported]] = {
    "lm-eval": lm_eval_files.read,
    "kvpress": scored_rows.kvpress,
    "longbench": scored_rows.longbench,
}
"""Tools whose files are read, and what reads them."""


def import_runs(
    path: str | Path,
    source: str,
    *,
    out: str | Path = "runs",
    like: str | Path | None = None,
    model: str | None = None,
    method: str | None = None,
) -> Path:
    """Make a run of another tool's files; returns its folder.

    Parameters
    ----------
    path
        The file or folder.
    source
        One of `SOURCES`.
    like
        A run of ours whose ids the samples get, where a sample with the same references stands in it: then the two can
        be compared. Files of LongBench and kvpress have no ids.
    model, method
        What to call them; default: as the files do.

    Raises
    ------
    UsageError
        In one line, with the file and what is missing in it.
    """
    if source not in SOURCES:
        raise unknown_name("source of runs", source, SOURCES)
    if not Path(path).exists():
        raise UsageError(f"{path}: no such file or folder")
    found = SOURCES[source](Path(path))
    if like is not None:
        from ..results.loading import load_run

        found = replace(found, tasks=tuple(_renamed(task, load_run(Path(like))) for task in found.tasks))
    found = replace(found, model=model or found.model, method=method or found.method or found.source)
    return _written(found, Path(out))


def _renamed(task: ImportedTask, like: LoadedRun) -> ImportedTask:
    """The task with the ids that `like` gives samples of the same references, in order."""
    waiting: dict[str, deque[SampleRecord]] = {}
    for record in like.of_task(task.name).values():
        waiting.setdefault(record.hash_of_references, deque()).append(record)
    if not waiting:
        raise UsageError(f"--like {like.source}: it has no samples of {task.name}")
    records = []
    for record in task.records:
        same = waiting.get(record.hash_of_references)
        twin = same.popleft() if same else None
        records.append(record if twin is None else replace(record, id=twin.id, text_hash=twin.text_hash))
    if all(a is b for a, b in zip(records, task.records)):
        raise UsageError(
            f"--like {like.source}: none of its samples of {task.name} has the references of these"
        )
    return replace(task, records=tuple(records))


def _task(found: ImportedTask) -> Task:
    """The task of that name, to summarise with; its metrics are those of its records."""
    family, _, variant = found.name.partition("/")
    cls = registry.task_class(family)[0].cls
    if not cls.any_variant:
        cls = registry.task_class(found.name)[0].cls
    made = cls(cls.Options.parse({}, f"task {family}"), found.name, variant or None)
    metrics = list(dict.fromkeys(m for r in found.records for m in r.scores))
    if not metrics:
        raise UsageError(f"{found.name}: no sample has a score from 0 to 1")
    if made.metrics[0] not in metrics:
        made.metrics = tuple(metrics)  # type: ignore[misc]  # what was measured elsewhere
    return made


def _written(found: Imported, out: Path) -> Path:
    tasks = [_task(each) for each in found.tasks]
    records = [r for each in found.tasks for r in each.records]
    kept: dict[Key, SampleRecord] = {}
    for record in records:
        if record.key in kept:
            raise UsageError(
                f"{found.path}: {record.task} {record.id} is there twice; keep one line for each sample"
            )
        kept[record.key] = record
    identity = _identity(found, tasks, records)
    folder = RunFolder(out / folder_name(found.method, found.model, identity))
    content = _content(found, tasks, kept, identity)
    with folder.open():
        if folder.samples_path.exists():
            return folder.path  # these very files were taken in before
        folder.write_run({**content, "status": "running"})
        with folder.syncing_behind():
            for record in kept.values():
                folder.append(record)
        summed = {"summary": _summary(tasks, kept), "summary_of": digest(kept.values())}
        folder.write_run({**content, "status": "finished", **summed})
    return folder.path


def _summary(tasks: Sequence[Task], records: dict[Key, SampleRecord]) -> dict[str, Any]:
    """The run's summary, without parts of a task whose facts (a length, a bucket) the files do not have."""
    try:
        return summarise(tasks, list(records), records)
    except UsageError:
        for task in tasks:
            task.breakdown = lambda scored: {}  # type: ignore[method-assign]
        return summarise(tasks, list(records), records)


def _identity(found: Imported, tasks: Sequence[Task], records: Sequence[SampleRecord]) -> dict[str, Any]:
    whole = hashlib.sha256(
        "\n".join(json.dumps(r.to_json(), sort_keys=True) for r in records).encode()
    ).hexdigest()
    named = hashlib.sha256(found.model.encode()).hexdigest()
    unknown = dict.fromkeys(("context_length", "adapter", "max_context"))
    return {
        "schema": SCHEMA,
        "harness": __version__,
        "method": found.method,
        "method_version": "imported",
        "options": {},
        "model_hash": f"imported:{named[:32]}",
        "tokenizer_hash": f"imported:{named[:32]}:{whole[:32]}",
        **unknown,
        "dtype": "unknown",
        "device": "unknown",
        "batch_size": 1,
        "truncate": "unknown",
        "chat": "unknown",
        "seed": 0,
        "tasks": [_task_identity(t, each.version) for t, each in zip(tasks, found.tasks)],
        "imported": {"from": found.source, "records": whole},
    }


def _task_identity(task: Task, version: str) -> dict[str, Any]:
    options = task.options.model_dump(mode="json")
    return {"name": task.name, "version": version, "preset": task.preset, "options": options}


def _content(
    found: Imported, tasks: Sequence[Task], records: dict[Key, SampleRecord], identity: dict[str, Any]
) -> dict[str, Any]:
    planned = {t.name: [i for task, i in records if task == t.name] for t in tasks}
    warning = f"imported from {found.source}: compression, memory and time were not measured"
    return {
        "schema": SCHEMA,
        "hash": identity_hash(identity),
        "identity": identity,
        "settings": {"method": found.method, "model": found.model, "tasks": list(planned)},
        "method": {
            "name": found.method,
            "origin": f"imported from {found.source}",
            "version": "imported",
            "sees_question": False,
        },
        "model": {"name": found.model},
        "method_facts": {"warning": warning, "imported": dict(found.facts)},
        "metrics": {t.name: t.metrics[0] for t in tasks},
        "planned": planned,
        "prompts": {
            name: {"preset": "imported", "hash": "0" * 12, "samples": len(ids), "samples_hash": "0" * 12}
            for name, ids in planned.items()
        },
        "environment": {},
    }
