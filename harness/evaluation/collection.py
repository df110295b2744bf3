"""The samples of a run's tasks: drawn, held to what a record can hold, and made ready; once for many runs if asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..contracts.method import Method
from ..contracts.task import Sample, Task, TaskEnvironment
from ..errors import Unavailable, UsageError
from .apart import apart
from .samples import PreparedSample, prepare_sample
from .task_environment import task_environment

if TYPE_CHECKING:
    from .settings import RunSettings


Take = Callable[[Task, TaskEnvironment, "RunSettings", Method], list[PreparedSample]]
"""How the samples of one task are made ready: `take_samples`, or what gives the same again for many runs."""


def collect_samples(
    tasks: Sequence[Task],
    method: Method,
    settings: RunSettings,
    note: Callable[[str], None] | None = None,
    take: Take | None = None,
) -> tuple[list[PreparedSample], dict[str, str]]:
    """The samples of all tasks, and why those members of groups that cannot be asked here are left out."""
    samples: list[PreparedSample] = []
    unavailable: dict[str, str] = {}
    for task in tasks:
        env = task_environment(
            method.model,
            seed=settings.seed,
            data_dir=settings.data_dir,
            offline=settings.offline,
            limit=settings.limit,
            trust_task_code=settings.trust_task_code,
            notify=note,
        )
        try:
            made = (take or take_samples)(task, env, settings, method)
        except Unavailable as error:
            if task.name in settings.tasks and not settings.skip_unavailable:
                raise
            unavailable[task.name] = str(error)
            continue
        if not made:
            raise UsageError(f"task {task.name} has no samples")
        samples += made
    if not samples:
        raise UsageError("; ".join(dict.fromkeys(unavailable.values())))
    return samples, unavailable


def take_samples(
    task: Task, env: TaskEnvironment, settings: RunSettings, method: Method
) -> list[PreparedSample]:
    """The samples of one task, made ready for one method."""
    return [prepare_sample(task, sample, method, settings) for sample in drawn(task, env)]


def drawn(task: Task, env: TaskEnvironment) -> Iterator[Sample]:
    """The samples of a task up to the limit. Raises UsageError for those that no record could hold."""
    ids = set()
    for number, sample in enumerate(task.samples(env)):
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


KEPT = 50_000_000
"""Characters of drawn samples that `SharedSamples` keeps at once, some 100 MB."""


@dataclass
class _Drawn:
    """A task that drew its samples, what it said of its data, and how its samples came out, by what was asked of them.

    `samples` is None once their texts were let go.
    """

    task: Task
    samples: list[Sample] | None
    notes: list[str]
    ready: dict[tuple[Any, ...], list[PreparedSample]] = field(default_factory=dict)

    @property
    def characters(self) -> int:
        return sum(len(s.prompt.text) + sum(len(q.suffix) for q in s.questions) for s in self.samples or ())


class SharedSamples:
    """`take_samples` for a plan of many runs: what one of them drew or made ready is not made again for the next.

    The samples it gives have sizes and no texts (`PreparedSample.without_texts`), and belong to the task that drew
    them: its facts are known.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._drawn: dict[tuple[Any, ...], _Drawn] = {}

    def __call__(
        self, task: Task, env: TaskEnvironment, settings: RunSettings, method: Method
    ) -> list[PreparedSample]:
        key = (*_asked_of(task, env), *_reader(method))
        known = self._drawn.pop(key, None)
        if known is not None and env.notify is not None:
            for said in known.notes:
                env.notify(said)
        limits = _limits(settings, method)
        if known is None or (known.samples is None and limits not in known.ready):
            known = self._draw(task, env)
        self._drawn[key] = known  # the last asked for is the last to be let go
        if limits not in known.ready:
            ready = [prepare_sample(known.task, s, method, settings) for s in known.samples or ()]
            known.ready[limits] = [p.without_texts() for p in ready]
        self._let_go()
        return known.ready[limits]

    def _draw(self, task: Task, env: TaskEnvironment) -> _Drawn:
        notes: list[str] = []

        def said(line: str) -> None:
            notes.append(line)
            if env.notify is not None:
                env.notify(line)

        return _Drawn(task, list(drawn(task, replace(env, notify=said))), notes)

    def _let_go(self) -> None:
        held = [d for d in self._drawn.values() if d.samples is not None]
        sizes = [d.characters for d in held]
        excess = sum(sizes) - self._kept
        for old, size in zip(held, sizes):
            if excess <= 0:
                break
            old.samples = None
            excess -= size


def _asked_of(task: Task, env: TaskEnvironment) -> tuple[Any, ...]:
    """What decides which samples a task draws, but for the model."""
    options = task.options.model_dump_json()
    return (
        type(task),
        task.name,
        task.preset,
        options,
        env.seed,
        env.data_dir,
        env.offline,
        env.limit,
        env.trust_task_code,
    )


def _reader(method: Method) -> tuple[Any, ...]:
    """What of a model decides how a prompt is counted, and so drawn."""
    model = method.model
    return model.name, model.content_hash, model.tokenizer_hash, model.context_length, model.chat


def _limits(settings: RunSettings, method: Method) -> tuple[Any, ...]:
    """What decides how a drawn sample is cut."""
    return (
        settings.truncate,
        settings.max_context,
        *map(apart, (method.context_limit, method.prompt_limit, method.default_max_context)),
    )
