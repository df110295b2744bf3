"""Samples for a plan of many runs: drawn and measured once for all that ask the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..contracts.method import Method
from ..contracts.task import Sample, Task, TaskEnvironment
from ..errors import Unavailable
from .apart import apart
from .collecting import drawn
from .samples import PreparedSample, prepare_sample
from .settings import RunSettings

KEPT = 50_000_000
"""Characters of drawn samples that `SharedSamples` keeps at once, some 100 MB."""


@dataclass
class _Drawn:
    """A task that drew its samples, what it said of its data, and how its samples came out, by what was asked of them.

    `samples` is None before they are drawn, and once their texts, `characters` long, were let go.
    """

    task: Task
    samples: list[Sample] | None = None
    characters: int = 0
    notes: list[str] = field(default_factory=list)
    ready: dict[tuple[Any, ...], list[PreparedSample]] = field(default_factory=dict)


class SharedSamples:
    """`take_samples` for a plan of many runs: what one of them drew or made ready is not made again for the next.

    The samples it gives have sizes and no texts (`PreparedSample.without_texts`), and belong to the task that drew
    them: its facts are known.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._drawn: dict[tuple[Any, ...], _Drawn] = {}
        self._missing: dict[tuple[Any, ...], str] = {}

    def __call__(
        self, task: Task, env: TaskEnvironment, settings: RunSettings, method: Method
    ) -> Iterator[PreparedSample]:
        key, limits = (*_asked_of(task, env), *_reader(method)), _limits(settings, method)
        if (why := self._missing.get(key)) is not None:
            raise Unavailable(why)
        known = self._drawn.get(key) or _Drawn(task)
        tell = env.notify or (lambda line: None)
        if limits in known.ready or known.samples is not None:
            for line in known.notes:
                tell(line)
            source = iter(known.samples or ())
        else:
            known = _Drawn(task, ready=known.ready)
            notify = _both(known.notes.append, tell)
            source = self._there(key, drawn(task, replace(env, notify=notify)))
        if limits in known.ready:
            yield from known.ready[limits]
            return
        samples, ready = [], []
        for sample in source:
            made = prepare_sample(known.task, sample, method, settings).without_texts()
            samples.append(sample)
            ready.append(made)
            yield made
        if known.samples is None:
            known.samples, known.characters = samples, sum(map(_characters, samples))
        known.ready[limits] = ready
        self._drawn.pop(key, None)
        self._drawn[key] = known  # the last asked for is the last to be let go
        self._let_go()

    def _there(self, key: tuple[Any, ...], source: Iterator[Sample]) -> Iterator[Sample]:
        """`source`; what it lacks is remembered: to look for it may take seconds, and the next run lacks it too."""
        try:
            yield from source
        except Unavailable as error:
            self._missing[key] = str(error)
            raise

    def _let_go(self) -> None:
        held = [d for d in self._drawn.values() if d.samples is not None]
        excess = sum(d.characters for d in held) - self._kept
        for old in held:
            if excess <= 0:
                break
            old.samples = None
            excess -= old.characters


def _characters(sample: Sample) -> int:
    prompt = sample.prompt
    own = len(prompt.prefix) + len(prompt.context) + len(prompt.suffix)
    return own + sum(len(q.suffix) for q in sample.questions)


def _both(one: Callable[[str], None], other: Callable[[str], None]) -> Callable[[str], None]:
    def said(line: str) -> None:
        one(line)
        other(line)

    return said


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
