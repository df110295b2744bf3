"""Recorded baselines: what later runs are held against, in one small file that can be committed.

A file holds runs without their answers: of each sample its scores, what identifies the question, how it was
truncated, what was measured and what it cost. The same runs give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._util import artifacts
from .._util.files import write_whole, writes
from ..contracts.record import SampleRecord
from ..contracts.run import COSTS, SHARED, LoadedRun
from ..errors import UsageError, unknown_name
from .labels import labelled
from .loading import loaded

KIND = "recorded"
"""Where packages that ship baselines keep them, below a folder of `harness._util.artifacts`."""
FOLDER = Path("recorded")
SCHEMA = 1
DIGITS = 6
"""Significant digits of costs: seconds are no more exact than that."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "truncation": (
        "rule",
        "limit",
        "tokens_before",
        "tokens_after",
        "truncated",
        "answer_in_context",
        "answer_survives",
    ),
    "measured": ("kv_tokens", "compression", "verified"),
    "cost": (*COSTS, "positions"),
}
"""What is kept of the parts of a record."""
PLAIN = (
    "id",
    "status",
    "prompt_hash",
    "text_hash",
    "references_hash",
    "prompt_tokens",
    "new_tokens",
    "stop_reason",
)
"""What is kept of a record itself."""
LATER = ("text_hash",)
"""Of these what earlier baselines have not."""


def record(name: str, runs: Sequence[LoadedRun], folder: Path = FOLDER) -> Path:
    """Write `runs` as the recorded baseline `name` into `folder`; returns the file.

    Raises
    ------
    UsageError
        For a name that is no file name, a run that is not finished, or a file that holds another baseline:
        nothing is written over.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(f"--record {name}: use letters, digits, '.', '_' and '-' only")
    if not runs:
        raise UsageError(f"--record {name}: there are no runs to record")
    for run in runs:
        if run.status not in ("finished", "finished with failures"):
            raise UsageError(f"{run.source} is marked as {run.status}: finish it before it is recorded")
    content = {
        "schema": SCHEMA,
        "name": name,
        "runs": [_to_json(r) for r in sorted(runs, key=lambda r: r.hash)],
    }
    text = (
        json.dumps(content, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")) + "\n"
    )
    path = folder / f"{name}.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise UsageError(f"{path} holds another baseline; choose another name, or remove it first")
    with writes(folder):
        write_whole(path, text)
    return path


def read(path: Path) -> list[LoadedRun]:
    """The runs of a recorded baseline, as `harness.results.loading.load_runs` gives them but without answers.

    Raises
    ------
    UsageError
        If the file is no recorded baseline, or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']!r}, not {SCHEMA}")
        source = f"recorded baseline {content['name']}"
        runs = [loaded(each["run"], list(_records(each["tasks"])), source) for each in content["runs"]]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UsageError(f"{path} is no recorded baseline, or damaged: {reason}") from None
    return labelled(runs)


def names(folder: Path = FOLDER) -> list[str]:
    """Every recorded baseline that `find` knows by name, sorted."""
    places = (folder, *(root / KIND for root in artifacts.folders()))
    return sorted({path.stem for place in places for path in place.glob("*.json")})


def find(name: str, folder: Path = FOLDER) -> Path:
    """The file of a recorded baseline: a path, or a name in `folder` or among what packages ship.

    Raises
    ------
    UsageError
        If there is none of that name; the message offers the nearest.
    """
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return path
    if path.name == name:
        here = folder / f"{name}.json"
        shipped = here if here.is_file() else artifacts.find(KIND, f"{name}.json")
        if shipped is not None:
            return shipped
    known = names(folder)
    if not known:
        raise UsageError(
            f"there is no run's folder {name}, and no baseline of that name: the folder {folder}/ holds none"
        )
    raise unknown_name(f"run's folder or recorded baseline (in {folder})", name, known)


def _to_json(run: LoadedRun) -> dict[str, Any]:
    """A run's facts, and for each task a column for each thing that is kept."""
    settings = {k: v for k, v in run.content["settings"].items() if k not in ("out", "data_dir")}
    tasks = {
        task.name: _columns(sorted(run.of_task(task.name).values(), key=lambda r: r.id)) for task in run.tasks
    }
    # Ids stand in the columns, and rounded costs have another digest.
    facts = {
        name: value
        for name, value in run.content.items()
        if name not in ("planned", "summary_of", "summary_sum")
    }
    return {"run": _portable({**facts, "settings": settings}), "tasks": tasks}


def _columns(records: Sequence[SampleRecord]) -> dict[str, Any]:
    flat = [{**r.to_json(), "references_hash": r.hash_of_references} for r in records]
    columns: dict[str, Any] = {key: _column(r.get(key) for r in flat) for key in PLAIN}
    metrics = sorted({metric for r in flat for metric in r.get("scores") or ()})
    columns["scores"] = {m: [(r.get("scores") or {}).get(m) for r in flat] for m in metrics}
    for part, keys in PARTS.items():
        columns[part] = {key: _column((r.get(part) or {}).get(key) for r in flat) for key in keys}
    if any(r.cost.questions > 1 for r in records):
        for key in SHARED:
            columns["cost"][key] = _column(getattr(r.cost, key) for r in records)
    return columns


def _column(values: Iterable[Any]) -> list[Any]:
    return [float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for v in values]


def _records(tasks: Mapping[str, Any]) -> Iterable[SampleRecord]:
    """Records as a run has them, as far as they were kept; `zip` refuses columns of unequal length."""
    for task, columns in tasks.items():
        later = [None] * len(columns["id"])  # a column that came after some baselines were recorded
        given = {key: columns.get(key, later) if key in LATER else columns[key] for key in PLAIN}
        plain = [dict(zip(PLAIN, row)) for row in zip(*given.values(), strict=True)]
        parts = {part: _parts(columns[part], len(plain)) for part in ("scores", *PARTS)}
        for i, row in enumerate(plain):
            kept: dict[str, Any] = {"task": task, **row, "metadata": {}}
            if row["status"] == "ok":
                kept |= {part: values[i] for part, values in parts.items()}
                kept["scores"] = {m: v for m, v in kept["scores"].items() if v is not None}
            else:
                kept["truncation"] = parts["truncation"][i]
            yield SampleRecord.from_json(kept)


def _parts(columns: Mapping[str, list[Any]], n: int) -> list[dict[str, Any]]:
    if any(len(column) != n for column in columns.values()):
        raise ValueError("columns differ in length")
    return [dict(zip(columns, row)) for row in zip(*columns.values())] if columns else [{} for _ in range(n)]


def _portable(value: Any) -> Any:
    """`value` with the last part only of absolute paths: a machine's folders are nobody else's business."""
    if isinstance(value, Mapping):
        return {key: _portable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(each) for each in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
