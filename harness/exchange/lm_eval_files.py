"""lm-eval's files: ``results_*.json`` and ``samples_<task>_*.jsonl``, as its own ``--log_samples`` writes them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import stdev
from typing import Any

from .._version import __version__
from ..contracts.record import SampleRecord
from ..contracts.run import LoadedRun, RunTask
from .foreign import Imported, ImportedTask, field, lines, one_json

NONE = "none"
"""lm-eval's name of no filter: ``acc,none``."""


def results(run: LoadedRun) -> dict[str, Any]:
    """The content of a results file, as ``lm_eval.utils.make_table`` and its readers take it."""
    tasks = {t.name: _scores(run, t) for t in run.tasks}
    settings = run.content.get("settings", {})
    return {
        "results": {name: {"alias": name, **found} for name, found in tasks.items()},
        "group_subtasks": {name: [] for name in tasks},
        "configs": {t.name: _config(t) for t in run.tasks},
        "versions": {t.name: t.version for t in run.tasks},
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {t.name: dict.fromkeys(_metrics(run, t), True) for t in run.tasks},
        "n-samples": {t.name: {"original": t.planned, "effective": _finished(run, t)} for t in run.tasks},
        "config": {
            "model": "harness",
            "model_args": {"method": run.method, "model": run.model, **_plain(run.options)},
            "batch_size": run.identity.get("batch_size"),
            "device": run.identity.get("device"),
            "limit": settings.get("limit"),
            "random_seed": run.identity.get("seed"),
        },
        "git_hash": (run.content.get("environment") or {}).get("commit"),
        "model_source": "harness",
        "model_name": run.model,
        "model_name_sanitized": re.sub(r"[\"<>:/|\\?*\[\]]+", "__", run.model),
        "harness": {"version": __version__, "run": run.hash, "label": run.label, "status": run.status},
    }


def _config(task: RunTask) -> dict[str, Any]:
    return {"task": task.name, "metadata": {"version": task.version}, **_plain(task.options)}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if v is not None}


def _finished(run: LoadedRun, task: RunTask) -> int:
    return sum(r.finished for r in run.of_task(task.name).values())


def _metrics(run: LoadedRun, task: RunTask) -> list[str]:
    names = [m for r in run.of_task(task.name).values() if r.finished for m in r.scores]
    return list(dict.fromkeys([task.metric, *names])) if names else [task.metric]


def _scores(run: LoadedRun, task: RunTask) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in _metrics(run, task):
        values = [
            float(r.scores[metric])
            for r in run.of_task(task.name).values()
            if r.finished and metric in r.scores
        ]
        centre = sum(values) / len(values) if values else None
        spread = stdev(values) if len(values) > 1 else None
        found[f"{metric},{NONE}"] = centre
        found[f"{metric}_stderr,{NONE}"] = "N/A" if spread is None else spread / math.sqrt(len(values))
    return found


def samples(run: LoadedRun, task: RunTask) -> Iterator[dict[str, Any]]:
    """The lines of a task's samples file. Prompts are not in a run's records, so ``arguments`` are empty."""
    for number, record in enumerate(run.of_task(task.name).values()):
        if not record.finished:
            continue
        target = json.dumps(list(record.references or ()), ensure_ascii=False)
        answers = [a.prediction for a in record.answers] or [record.prediction]
        yield {
            "doc_id": number,
            "doc": {"id": record.id, "answers": list(record.references or ()), **dict(record.metadata)},
            "target": target,
            "arguments": {},
            "resps": [[a] for a in answers],
            "filtered_resps": answers,
            "filter": NONE,
            "metrics": list(record.scores),
            "doc_hash": _hash(f"{task.name}/{record.id}"),
            "prompt_hash": record.prompt_hash,
            "target_hash": _hash(target),
            **record.scores,
        }


def file_name(task: str) -> str:
    """A task's name in the name of a file."""
    return task.replace("/", "__").replace(":", "__")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.+-]+)\.jsonl")


def read(path: Path) -> Imported:
    """A run of lm-eval from its results file and the samples files beside it.

    Parameters
    ----------
    path
        A ``results_*.json``, or a folder (somewhere below it) with one.

    Raises
    ------
    UsageError
        In one line: no results file or several, no samples beside it (``--log_samples``), a field that is missing.
    """
    from ..errors import UsageError

    found = sorted(path.rglob("results_*.json")) if path.is_dir() else [path]
    if len(found) != 1:
        raise UsageError(
            f"{path} holds {len(found)} files results_*.json of lm-eval; name one"
            + (f": {found[0]}" if found else "")
        )
    content = one_json(found[0])
    stamp = found[0].stem.removeprefix("results_")
    files = {
        m["task"]: p
        for p in sorted(found[0].parent.glob("samples_*.jsonl"))
        if (m := _NAME.fullmatch(p.name)) and m["date"] == stamp
    }
    if not files:
        raise UsageError(f"{found[0]}: no samples_*_{stamp}.jsonl beside it; run lm_eval with --log_samples")
    config = field(content, "config", dict, found[0])
    tasks = []
    versions = _mapping(content.get("versions"))
    ours = {file_name(name): name for name in versions} if content.get("model_source") == "harness" else {}
    for name, file in files.items():
        task = ours.get(name, f"lm_eval/{name}")
        rows: dict[str, SampleRecord] = {}
        for number, row in lines(file):
            record = _record(task, row, f"{file} line {number}")
            rows.setdefault(record.id, record)  # of several filters the first
        tasks.append(
            ImportedTask(task, str(versions.get(name, versions.get(task, "0"))), tuple(rows.values()))
        )
    arguments = config.get("model_args")
    model = str(content.get("model_name") or config.get("model") or "unknown")
    facts = {
        "lm_eval_version": content.get("lm_eval_version"),
        "model_args": arguments,
        "date": content.get("date"),
    }
    return Imported("lm-eval", model, tuple(tasks), facts, found[0])


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _record(task: str, row: Mapping[str, Any], where: str) -> SampleRecord:
    identifier = field(row, "doc_id", int | str, where)
    metrics = field(row, "metrics", list, where)
    scores = {}
    for name in map(str, metrics):
        value = row.get(name)
        if isinstance(value, int | float) and 0 <= value <= 1:  # a truth value is a number too
            scores[name] = float(value)
    target = row.get("target", "")
    answers = row.get("filtered_resps", [])
    first = answers[0] if isinstance(answers, list) and answers else ""
    doc = _mapping(row.get("doc"))
    kept = doc.get("answers") if isinstance(doc.get("answers"), list) and "id" in doc else None
    return SampleRecord(
        id=str(doc["id"]) if kept is not None else str(identifier),
        task=task,
        references=tuple(map(str, kept)) if kept is not None else (str(target),),
        prediction=first if isinstance(first, str) else json.dumps(first),
        scores=scores,
        stop_reason="unknown",
    )
