"""Scoring predictions that were made elsewhere: a JSON-lines file in, the tasks' own scores out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import registry
from .._util import entry_points
from .._util.json_rows import json_row
from .._util.thoughts import holds_thought, without_thought
from ..contracts.task import Task
from ..errors import HarnessError, UsageError, in_words, unknown_name


@dataclass(frozen=True)
class FileScores:
    """What a file of predictions scored.

    Attributes
    ----------
    scores
        The main metric of each line, in the file's order: 0..1, not rounded.
    tasks
        Task of each line, parallel to `scores`.
    thoughts
        Lines whose prediction holds a thought (``<think>``).
    """

    scores: tuple[float, ...]
    tasks: tuple[str, ...]
    thoughts: int = 0

    def counts(self) -> dict[str, int]:
        """Lines of each task, in order of first appearance."""
        found: dict[str, int] = {}
        for task in self.tasks:
            found[task] = found.get(task, 0) + 1
        return found

    def means(self) -> dict[str, float]:
        """Mean of each task times 100, rounded to two decimals as published tables are."""
        totals = dict.fromkeys(self.tasks, 0.0)
        for task, score in zip(self.tasks, self.scores, strict=True):
            totals[task] += score
        return {task: round(100 * totals[task] / n, 2) for task, n in self.counts().items()}


def score_file(path: Path, *, drop_thoughts: bool = False) -> FileScores:
    """Score every line of `path`.

    A line is a JSON object with ``prediction`` (text), what its task needs to score it (``answers`` or
    what its `answer_fields` call them, and ``all_classes`` where there are classes) and ``task`` (a task's full
    name), or instead of ``task`` a ``dataset``: a task of its own, else a variant of exactly one family, by its
    bare name. Blank lines are passed over.

    Parameters
    ----------
    path
        The file.
    drop_thoughts
        Score what follows a thought (``<think>...</think>``), which is nothing if it does not end. Official scorers
        take the whole text.

    Raises
    ------
    UsageError
        If the file cannot be read or holds no line, or for the first broken line, with its number.
    """
    tasks: dict[tuple[str, bool], Task] = {}
    scores: list[float] = []
    names: list[str] = []
    ids: dict[tuple[str, str], int] = {}
    thoughts = 0
    for number, line in _lines(path):
        try:
            row = _row(line)
            named = _task_name(row)
            if named not in tasks:
                tasks[named] = build(*named)
            _once(tasks[named].name, row, number, ids)
            thoughts += holds_thought(row["prediction"])
            if drop_thoughts:
                row["prediction"] = without_thought(row["prediction"])
            scores.append(_score(tasks[named], row))
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        names.append(tasks[named].name)
    if not scores:
        raise UsageError(f"{path}: no lines to score")
    return FileScores(tuple(scores), tuple(names), thoughts)


def resolve(dataset: str) -> str:
    """The task that a bare data set name stands for, by asking every registered family.

    A task of that very name comes before variants of families.

    Raises
    ------
    UsageError
        If no family or more than one knows the name.
    """
    if "/" in dataset:
        return dataset
    families = entry_points.entry_points("tasks")
    known: dict[str, list[str]] = {}
    for family in sorted(families):
        try:
            cls = registry.task_class(family)[0].cls
        except UsageError:
            continue  # a family that cannot be imported is an error only for who asks for it
        variants = cls.variants
        for name in (variants or (family,)) if cls.bare_names else ():
            known.setdefault(name, []).append(f"{family}/{name}" if variants else family)
    if dataset not in known:
        raise unknown_name("data set", dataset, known)
    if dataset in known[dataset]:
        return dataset
    if len(known[dataset]) > 1:
        raise UsageError(f"dataset {dataset!r} is in {' and '.join(known[dataset])}; write the field 'task'")
    return known[dataset][0]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from ((n, line) for n, line in enumerate(file, start=1) if line.strip())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json_row(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise UsageError("not a JSON object")
    if not isinstance(row.get("prediction"), str):
        raise UsageError("field 'prediction' must be a string")
    return row


def _once(task: str, row: dict[str, Any], number: int, ids: dict[tuple[str, str], int]) -> None:
    """Refuse a second prediction for one sample: a second run has appended its own, and both would count."""
    given = next((row[name] for name in ("_id", "id") if row.get(name) not in (None, "")), None)
    if not isinstance(given, str | int):
        return
    before = ids.setdefault((task, str(given)), number)
    if before != number:
        raise UsageError(
            f"a second prediction for {task} {given}, after line {before}; keep one line for each sample"
        )


def _task_name(row: dict[str, Any]) -> tuple[str, bool]:
    """What the line calls its task, and whether that is a full name."""
    for field, full in (("task", True), ("dataset", False)):
        if row.get(field) is not None:
            if not isinstance(row[field], str):
                raise UsageError(f"field {field!r} must be a string")
            return row[field], full
    raise UsageError("field 'task' is missing (family/variant, see 'harness list tasks')")


def build(name: str, full: bool) -> Task:
    """The task with its default options."""
    if not full:
        name = resolve(name)
    plugin, variant = registry.task_class(name)
    if variant is None and plugin.cls.variants:
        raise UsageError(f"{name!r} is a family of tasks; name one, as in {name}/{plugin.cls.variants[0]}")
    return plugin.cls(plugin.cls.Options.parse({}, f"task {plugin.name}"), name, variant)


def _score(task: Task, row: dict[str, Any]) -> float:
    """The main metric. Raises UsageError for whatever a task, which anybody may have written, raises at the row."""
    try:
        sample = task.sample_from_row(task.variant, row)
        return float(task.score(sample, row["prediction"])[task.metrics[0]])
    except HarnessError:
        raise
    except Exception as error:
        raise UsageError(f"task {task.name} cannot score it ({in_words(error)})") from error
