"""Cards of the Hub: of a data set of results, and the results of an adapter as model-index metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._version import __version__
from ..contracts.run import LoadedRun
from ..errors import UsageError
from .tables import public_name

CONFIGS = ("samples", "tasks", "runs")
"""Tables of a data set; the first is what `datasets.load_dataset` loads unless told otherwise."""


def dataset_card(runs: Sequence[LoadedRun], title: str) -> str:
    """The README.md of a data set of results: metadata, the scores, how each number was made."""
    import yaml

    from ..render import as_markdown

    head = {
        "pretty_name": title,
        "tags": ["long-context", "evaluation", "long-context-harness"],
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": "train", "path": f"data/{name}.parquet"}],
                **({"default": True} if name == CONFIGS[0] else {}),
            }
            for name in CONFIGS
        ],
    }
    from ..contracts.run import LoadedRuns
    from ..documents import Document

    scores = as_markdown([Document("scores", "Scores", [LoadedRuns(runs).scores()])], title)
    warned = "".join(f"- {run.label}: {warning}\n" for run in runs for warning in run.warnings)
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n{scores}\n"
        + (f"\n## To be known\n\n{warned}" if warned else "")
        + f"""
## Tables

| configuration | a row for |
| --- | --- |
| `samples` | each sample of each run: prediction, scores 0 to 1, tokens, measured KV entries, costs |
| `tasks` | each task of each run: score with its 95 % interval, compression, memory, seconds |
| `runs` | each run: method, options, model, window, seed |

Compression is measured in the model's forward passes (`verified`). Written by long-context-harness {__version__};
prompts and contexts are not part of it.
"""
    )


def model_index(runs: Sequence[LoadedRun], adapter: Path | None) -> str:
    """The head of a model card: base model and, as ``model-index``, what runs with it scored.

    Parameters
    ----------
    runs
        Of one method; each task of each is a result.
    adapter
        The folder whose card names the base model; None: the runs' model.

    Raises
    ------
    UsageError
        If there is no score, the folder is no adapter, or no run was made with it.
    """
    from huggingface_hub import EvalResult, ModelCardData

    card, name = _card(adapter), runs[0].method
    if adapter is not None:
        from ..models import adapters

        mine = adapters.fingerprint(adapter)
        runs = [run for run in runs if _same(run.identity.get("adapter"), mine)]
        if not runs:
            raise UsageError(f"--adapter {adapter}: none of the runs was made with it")
        name = adapter.resolve().name
    base = public_name(_base(card, runs[0]))
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=task.name,
            dataset_name=f"{task.name} (version {task.version})",
            metric_type=task.metric,
            metric_value=round(100 * _mean(run, task.name, task.metric), 2),
            metric_name=f"{task.metric} x 100, {_setting(run)}",
        )
        for run in runs
        for task in run.tasks
        if any(r.finished for r in run.of_task(task.name).values())
    ]
    if not results:
        raise UsageError("no run here has a finished sample: there is nothing to put on a card")
    data = ModelCardData(
        model_name=name,
        base_model=base,
        library_name="long-context-harness",
        tags=["long-context", runs[0].method],
        eval_results=results,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _base(card: Mapping[str, Any], run: LoadedRun) -> str:
    return str(card.get("request", {}).get("model") or run.model)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _card(adapter: Path | None) -> Mapping[str, Any]:
    if adapter is None:
        return {}
    from ..models import adapters

    return adapters.read_card(adapter)


def _mean(run: LoadedRun, task: str, metric: str) -> float:
    values = [float(r.scores[metric]) for r in run.of_task(task).values() if r.finished]
    return sum(values) / len(values)


def _setting(run: LoadedRun) -> str:
    row = next((r for r in run.content.get("summary", {}).get("tasks", ()) if r.get("compression")), None)
    ratio = f", {row['compression']:.1f}x compression measured" if row else ""
    return f"{run.label}, {run.protocol}{ratio}"
