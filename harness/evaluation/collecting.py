"""Which samples a run asks: those of all its tasks, and which tasks cannot be asked here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..contracts.method import Method
from ..contracts.task import Sample, Task, TaskEnvironment
from ..errors import HarnessError, Unavailable, UsageError, in_words
from .samples import PreparedSample, prepare_sample
from .settings import RunSettings
from .task_environment import task_environment

TELLING = 10.0
"""Seconds after which it is told how many prompts are made."""

Take = Callable[[Task, TaskEnvironment, RunSettings, Method], Iterator[PreparedSample]]
"""How the samples of a task are made ready: `take_samples`, or what gives many runs what they share."""


def take_samples(
    task: Task, env: TaskEnvironment, settings: RunSettings, method: Method
) -> Iterator[PreparedSample]:
    """The samples of a task, each made ready when it is taken; nothing is read before the first is."""
    for sample in drawn(task, env):
        yield prepare_sample(task, sample, method, settings)


def collect_samples(
    tasks: Sequence[Task],
    method: Method,
    settings: RunSettings,
    told: Callable[[str], None] | None = None,
    note: Callable[[str], None] | None = None,
    take: Take = take_samples,
) -> tuple[list[PreparedSample], dict[str, str]]:
    """The samples of all tasks, and why those members of groups that cannot be asked here are left out.

    The first sample of every task is made before the second of any: what a task lacks, mostly files, is known before
    the prompts of the others are made, which may take minutes.

    Parameters
    ----------
    told
        Told what tasks say of their data.
    note
        Told which tasks are left out, as soon as that is known, and now and then how many prompts are made.
    take
        Makes the samples of a task ready.

    Raises
    ------
    UsageError
        If a sample cannot be made, and its task was asked for by its own name or cannot be left out.
    """
    unavailable: dict[str, str] = {}
    say = note or (lambda line: None)

    def left_out(task: Task, error: Unavailable) -> None:
        if task.name in settings.tasks and not settings.skip_unavailable:
            raise error
        unavailable[task.name] = str(error)

    opened = _opened(tasks, method, settings, told, take, left_out)
    if opened:
        for line in left_out_in_words(unavailable):
            say(line)
    samples: list[PreparedSample] = []
    clock = time.monotonic()
    for task, made, series in opened:
        try:
            for sample in series:
                made.append(sample)
                if time.monotonic() - clock > TELLING:
                    clock = time.monotonic()
                    say(f"{task.name}: {len(made):,} prompts made, {len(samples) + len(made):,} in all")
        except Unavailable as error:
            left_out(task, error)
            continue
        samples += made
    if not samples:
        raise UsageError("; ".join(dict.fromkeys(unavailable.values())))
    return samples, unavailable


def _opened(
    tasks: Sequence[Task],
    method: Method,
    settings: RunSettings,
    told: Callable[[str], None] | None,
    take: Take,
    left_out: Callable[[Task, Unavailable], None],
) -> list[tuple[Task, list[PreparedSample], Iterator[PreparedSample]]]:
    """Each task that can be asked, its first sample, and where the others come from."""
    opened = []
    for task in tasks:
        env = task_environment(
            method.model,
            seed=settings.seed,
            data_dir=settings.data_dir,
            offline=settings.offline,
            limit=settings.limit,
            trust_task_code=settings.trust_task_code,
            notify=told,
        )
        series = take(task, env, settings, method)
        try:
            first = next(series, None)
        except Unavailable as error:
            left_out(task, error)
            continue
        if first is None:
            raise UsageError(f"task {task.name} has no samples")
        opened.append((task, [first], series))
    return opened


def left_out_in_words(unavailable: Mapping[str, str]) -> list[str]:
    """A line for each reason why tasks are left out, with their names."""
    lines = []
    for why in dict.fromkeys(unavailable.values()):
        names = [name for name, each in unavailable.items() if each == why]
        named = len(names) == 1 and why.startswith(f"{names[0]}: ")
        lines.append(f"not asked: {why}" if named else f"not asked: {', '.join(names)}: {why}")
    return lines


def _made(task: Task, env: TaskEnvironment) -> Iterator[Sample]:
    """What a task gives. Raises UsageError for whatever it raises: anybody may have written it, or its data."""
    try:
        yield from task.samples(env)
    except (HarnessError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(f"task {task.name}: its samples cannot be made ({in_words(error)})") from error


def drawn(task: Task, env: TaskEnvironment) -> Iterator[Sample]:
    """The samples of a task up to the limit. Raises UsageError for those that no record could hold."""
    ids: set[str] = set()
    for number, sample in enumerate(_made(task, env)):
        if env.limit is not None and number >= env.limit:
            break
        if sample.id in ids:
            raise UsageError(f"task {task.name} gives the id {sample.id!r} twice")
        ids.add(sample.id)
        try:
            writable([sample.id, sample.prompt.text, sample.references, sample.metadata])
            writable([[q.suffix, q.answer, q.references, q.metadata] for q in sample.questions])
        except (TypeError, ValueError) as error:
            why = "it holds half a character" if isinstance(error, UnicodeEncodeError) else error
            raise UsageError(
                f"task {task.name}: sample {sample.id!a} cannot be written down: {why}"
            ) from None
        yield sample


def writable(content: Any) -> None:
    """Raise TypeError or ValueError for what is not JSON, or holds halves of characters (lone surrogates)."""
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
