"""Logs as `inspect view` and `inspect_ai.log` read them: one JSON a run and task (log version 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._version import __version__
from ..contracts.record import SampleRecord
from ..contracts.run import LoadedRun, RunTask
from ..stats.bootstrap import mean

VERSION = 2


def log(run: LoadedRun, task: RunTask, written: str) -> dict[str, Any]:
    """The log of a task. `written`: the time of writing (ISO 8601), for what a run's records do not say."""
    records = list(run.of_task(task.name).values())
    finished = [r for r in records if r.finished]
    metrics = list(dict.fromkeys([task.metric, *(m for r in finished for m in r.scores)]))
    names = [r.id for r in records]
    return {
        "version": VERSION,
        "status": "success" if len(finished) == task.planned else "error" if not finished else "success",
        "eval": {
            "run_id": run.hash,
            "created": written,
            "task": task.name,
            "task_id": f"{run.hash}-{task.name.replace('/', '-')}",
            "task_version": task.version if not task.version.isdecimal() else int(task.version),
            "task_args": _plain(task.options),
            "dataset": {"name": task.name, "samples": task.planned, "sample_ids": names},
            "model": f"harness/{run.model}",
            "model_args": {"method": run.method, **_plain(run.options)},
            "config": {},
            "packages": {"long-context-harness": __version__},
            "metadata": {"label": run.label, "protocol": run.protocol, "identity": _plain(run.identity)},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": task.planned,
            "completed_samples": len(finished),
            "scores": [
                {
                    "name": metric,
                    "scorer": metric,
                    "params": {},
                    "metrics": {"mean": {"name": "mean", "value": _mean(finished, metric), "params": {}}},
                }
                for metric in metrics
            ],
        },
        "stats": {"started_at": written, "completed_at": written, "model_usage": {}},
        "samples": [_sample(run, record) for record in records],
    }


def _mean(records: list[SampleRecord], metric: str) -> float:
    return mean([float(r.scores[metric]) for r in records if metric in r.scores]) or 0.0


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(options), default=str))  # type: ignore[no-any-return]


def _sample(run: LoadedRun, record: SampleRecord) -> dict[str, Any]:
    """A sample; its prompt is not in a record, so that the input says where it is."""
    answer = record.prediction or "\n".join(a.prediction or "" for a in record.answers)
    shown = record.extra.get("excerpt")
    question = shown.get("question") if isinstance(shown, Mapping) else None
    found: dict[str, Any] = {
        "id": record.id,
        "epoch": 1,
        "input": question
        or f"sample {record.id} of {record.task} (the prompt is not kept in a run's records)",
        "target": list(record.references or ()),
        "messages": [],
        "output": {
            "model": f"harness/{run.model}",
            "choices": [
                {
                    "message": {"role": "assistant", "content": answer},
                    "stop_reason": "max_tokens" if record.stop_reason == "length" else "stop",
                }
            ],
        },
        "scores": {
            metric: {"value": value, "answer": answer, "history": []}
            for metric, value in record.scores.items()
        },
        "metadata": _plain(
            {
                **record.metadata,
                "measured": vars(record.measured),
                "cost": vars(record.cost),
                "status": record.status,
            }
        ),
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }
    if record.error is not None:
        said = f"{record.error.type}: {record.error.message}"
        found["error"] = {"message": said, "traceback": record.error.where or "", "traceback_ansi": said}
    return found
