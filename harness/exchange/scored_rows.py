"""Predictions without scores: rows of kvpress and of LongBench's own code, scored by the tasks here."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contracts.record import SampleRecord
from ..contracts.task import Task
from ..errors import UsageError, unknown_name
from ..evaluation.score_file import build
from .foreign import Imported, ImportedTask, field, lines

FAMILIES = ("babilong", "infinitebench", "longbench", "longbench_v2", "loogle", "ruler", "zero_scrolls")
"""Data sets of kvpress that are tasks here, under the same names."""


def longbench(path: Path) -> Imported:
    """What LongBench's ``pred.py`` writes: a folder of a model, ``<dataset>.jsonl`` with ``pred`` and ``answers``.

    Raises
    ------
    UsageError
        In one line with file, line and field.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.jsonl"))
    if not files:
        raise UsageError(f"{path} holds no <dataset>.jsonl, as LongBench's pred.py writes them")
    tasks = []
    for file in files:
        name = file.stem
        task = build(f"longbench/{name}", True)
        records = []
        for number, row in lines(file):
            where = f"{file} line {number}"
            prediction = field(row, "pred", str, where)
            records.append(_scored(task, {**row, "id": row.get("_id", number - 1)}, prediction, where))
        tasks.append(ImportedTask(task.name, task.version, tuple(records)))
    folder = path if path.is_dir() else path.parent
    return Imported("longbench", folder.resolve().name, tuple(tasks), {}, path)


def kvpress(path: Path) -> Imported:
    """What kvpress's ``evaluate.py`` writes: a folder with ``predictions.csv`` and ``config.yaml``.

    Raises
    ------
    UsageError
        In one line: a column that is missing, a data set that is no task here.
    """
    file = path / "predictions.csv" if path.is_dir() else path
    config = _config(file.parent / "config.yaml", file)
    family = str(config["dataset"])
    if family not in FAMILIES:
        raise unknown_name("data set of kvpress", family, FAMILIES)
    found: dict[str, list[SampleRecord]] = {}
    made: dict[str, Task] = {}
    for number, row in _rows(file):
        where = f"{file} line {number}"
        variant = row.get("task") or str(config.get("data_dir") or "")
        name = f"{family}/{re.sub(r'^' + re.escape(family) + '_', '', variant)}" if variant else family
        if name not in made:
            made[name] = build(name, True)
        task = made[name]
        answers = next((n for n in ("answers", "answer", "outputs") if row.get(n)), None)
        if answers is None:
            raise UsageError(f"{where}: no answers; kvpress wrote predictions alone before its version 0.3")
        prediction = field(row, "predicted_answer", str, where)
        given = {
            **row,
            task.answer_fields[0]: _list(row[answers]),
            "id": row.get("_id") or row.get("id") or number - 2,
        }
        record = _scored(task, given, prediction, where)
        if family == "ruler" and str(config.get("data_dir")).isdecimal():
            record = replace(record, metadata={**record.metadata, "length": int(str(config["data_dir"]))})
        found.setdefault(task.name, []).append(record)
    if not found:
        raise UsageError(f"{file} holds no prediction")
    versions = {task.name: task.version for task in made.values()}
    tasks = tuple(ImportedTask(name, versions[name], tuple(records)) for name, records in found.items())
    press = str(config.get("press_name", "kvpress"))
    ratio = config.get("compression_ratio")
    return Imported(
        "kvpress",
        str(config.get("model", "unknown")),
        tasks,
        {"compression_ratio": ratio, **config},
        file,
        f"kvpress:{press}",
    )


def _config(path: Path, file: Path) -> Mapping[str, Any]:
    """The settings beside the predictions, or what the name of the file says of them."""
    if path.is_file():
        from .._util.yaml import read_yaml

        content = read_yaml(path)
        if not isinstance(content, dict) or "dataset" not in content:
            raise UsageError(f"{path}: key 'dataset' is missing")
        return content
    parts = (file.parent.name if file.stem == "predictions" else file.stem).split("__")
    if len(parts) < 5:
        raise UsageError(f"{file}: no config.yaml beside it, and its name is none that kvpress gives")
    names = ("dataset", "data_dir", "model", "press_name", "compression_ratio")
    return {**dict(zip(names, parts)), "model": parts[2].replace("--", "/")}


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # an answer may be a chapter
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            for number, row in enumerate(csv.DictReader(opened), start=2):
                yield number, {k: v for k, v in row.items() if k is not None and v is not None}
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file} is no CSV ({error})") from None


_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")


def _list(text: str) -> list[str]:
    """The texts of a list as Python, numpy or pandas print it; another text is the only answer."""
    plain = text.strip()
    if plain[:1] in "[(" and plain[-1:] in "])" and (parts := _QUOTED.findall(plain)):
        return [re.sub(r"\\(.)", r"\1", a or b) for a, b in parts]
    return [text]


def _scored(task: Task, row: Mapping[str, Any], prediction: str, where: str) -> SampleRecord:
    try:
        sample = task.sample_from_row(task.variant, {**row, "id": str(row["id"])})
        scores = task.score(sample, prediction)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return SampleRecord(
        id=str(row["id"]),
        task=task.name,
        references=tuple(sample.references),
        metadata=dict(sample.metadata),
        prediction=prediction,
        scores=scores,
        stop_reason="unknown",
    )
