"""Runs as files of other tools: Parquet, Excel, lm-eval, inspect, a data set of the Hub, a model card's head."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..contracts.run import LoadedRun
from ..errors import UsageError, unknown_name
from . import cards, inspect_log, lm_eval_files, tables


@dataclass(frozen=True)
class Exported:
    """What was written: `files`, and `notes` on what there was no room for."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = field(default=())


def export(
    runs: Sequence[LoadedRun],
    out: str | Path,
    form: str | None = None,
    *,
    adapter: Path | None = None,
    force: bool = False,
) -> Exported:
    """Write runs in a format of another tool.

    Parameters
    ----------
    out
        A file (``.parquet``, ``.xlsx``, ``.md``) or a folder.
    form
        One of `FORMATS`; default: as the name ends.
    adapter
        Of ``model-card``: the adapter whose runs count.
    force
        Write over what is there.

    Raises
    ------
    UsageError
        For a format nobody has, a file that is there, a package that is missing (with its pip line).
    """
    target = Path(out)
    name = form or ENDINGS.get(target.suffix)
    if name is None:
        raise UsageError(
            f"--out {target}: say --format, one of {', '.join(FORMATS)}; {_endings()} go by their ending"
        )
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    if adapter is not None and name != "model-card":
        raise UsageError("--adapter is for --format model-card")
    if not runs:
        raise UsageError("there is no run to export")
    if target.exists() and not force and (target.is_file() or any(target.iterdir())):
        raise UsageError(f"{target} is there already; choose another --out, or say --force")
    from .._util.files import writes

    with writes(target.parent, "choose another --out"):
        target.parent.mkdir(parents=True, exist_ok=True)
        return FORMATS[name]([_public(run) for run in runs], target, adapter)


def _public(run: LoadedRun) -> LoadedRun:
    """The run under its model's public name: files travel, and where a model lies is nobody's business."""
    model = {**run.content["model"], "name": tables.public_name(run.model)}
    return replace(run, content={**run.content, "model": model})


def _endings() -> str:
    return ", ".join(ENDINGS)


def _parquet(runs: Sequence[LoadedRun], target: Path, adapter: Path | None) -> Exported:
    made = tables.tables(runs)
    if target.suffix:
        tables.write_parquet(made["samples"], target)
        return Exported((target,))
    target.mkdir(exist_ok=True)
    files = []
    for name, rows in made.items():
        files.append(target / f"{name}.parquet")
        tables.write_parquet(rows, files[-1])
    return Exported(tuple(files))


def _xlsx(runs: Sequence[LoadedRun], target: Path, adapter: Path | None) -> Exported:
    found = tables.tables(runs)
    notes = tables.write_xlsx({name: found[name] for name in ("tasks", "runs", "samples")}, target)
    return Exported((target,), tuple(notes))


def _dataset(runs: Sequence[LoadedRun], target: Path, adapter: Path | None) -> Exported:
    """What a data set of the Hub holds: the tables under ``data/`` and the card."""
    from ..comparison.reporting import title

    target.mkdir(exist_ok=True)
    made = _parquet(runs, target / "data", None)
    card = target / "README.md"
    card.write_text(cards.dataset_card(runs, f"Results of {title(runs)}"), encoding="utf-8")
    return Exported((card, *made.files))


def _lm_eval(runs: Sequence[LoadedRun], target: Path, adapter: Path | None) -> Exported:
    stamp = datetime.now(UTC).replace(tzinfo=None).isoformat().replace(":", "-")
    files = []
    for run in runs:
        folder = target / (_safe(run.label) if len(runs) > 1 else ".")
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"results_{stamp}.json")
        _dump(files[-1], lm_eval_files.results(run))
        for task in run.tasks:
            files.append(folder / f"samples_{lm_eval_files.file_name(task.name)}_{stamp}.jsonl")
            rows = lm_eval_files.samples(run, task)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            files[-1].write_text(text, encoding="utf-8")
    return Exported(tuple(files))


def _inspect(runs: Sequence[LoadedRun], target: Path, adapter: Path | None) -> Exported:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    target.mkdir(exist_ok=True)
    files = []
    for run in runs:
        for task in run.tasks:
            stamp = now.replace(":", "-").replace("+", "-")
            files.append(target / f"{stamp}_{_safe(task.name)}_{run.hash.replace(' + ', '-')}.json")
            _dump(files[-1], inspect_log.log(run, task, now))
    return Exported(tuple(files))


def _model_card(runs: Sequence[LoadedRun], target: Path, adapter: Path | None) -> Exported:
    target.write_text(cards.model_index(runs, adapter), encoding="utf-8")
    return Exported((target,))


def _dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=]+", "-", name).strip("-.") or "run"


FORMATS: dict[str, Callable[[Sequence[LoadedRun], Path, Path | None], Exported]] = {
    "parquet": _parquet,
    "xlsx": _xlsx,
    "dataset": _dataset,
    "lm-eval": _lm_eval,
    "inspect": _inspect,
    "model-card": _model_card,
}
"""Formats by name, and what writes them."""

ENDINGS = {".parquet": "parquet", ".xlsx": "xlsx"}
"""Formats that the name of a file says."""
