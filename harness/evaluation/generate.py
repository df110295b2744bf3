"""Asking a method and measuring it: one batch of prompts, or several questions over one context."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contracts.method import Method
from ..contracts.outputs import Decoding, Generation, Scored
from ..contracts.phases import phase
from ..contracts.record import Cost, Measured
from ..inference.likelihood import loglikelihood, score
from ..inference.meter import Meter, observe
from ..inference.verification import check
from ..prompts.rendering import tokenize

if TYPE_CHECKING:
    from .samples import Prepared


@dataclass
class Asked:
    """One answer, or the likelihoods of a sample's choices, with what was measured while it was made."""

    generation: Generation | Scored
    measured: Measured
    cost: Cost


@dataclass
class Reading:
    """A context compressed once for `questions` questions, and what that took.

    Attributes
    ----------
    state
        What the method's `compress` made of it.
    meter, seconds
        What was observed, and the time of the whole.
    """

    state: Any
    meter: Meter
    seconds: float
    questions: int


def ask(method: Method, batch: Sequence[Prepared]) -> list[Asked]:
    """The method's answers to a batch, or its likelihoods, in order."""
    prompts = [tokenize(p.rendered, method.model) for p in batch]
    began = time.perf_counter()
    with observe(method.model.network, method.model.device, len(batch)) as meter:
        generations: Sequence[Generation | Scored]
        if batch[0].continuations:
            generations = loglikelihood(method, prompts, [p.continuations for p in batch])
        else:
            generations = method.ask(prompts, batch[0].decoding)
    return _asked(batch, generations, meter, time.perf_counter() - began, None)


def read_once(method: Method, group: Sequence[Prepared]) -> Reading:
    """Compress the context that the samples of `group` share."""
    prompt = tokenize(group[0].rendered, method.model)
    began = time.perf_counter()
    with observe(method.model.network, method.model.device, 1) as meter, phase("compress"):
        [state] = method.compress([prompt.head_ids], [len(prompt.suffix_ids)], group[0].decoding)
    return Reading(state, meter, time.perf_counter() - began, len(group))


def ask_over(method: Method, reading: Reading, batch: Sequence[Prepared]) -> list[Asked]:
    """The method's answers to some of the questions over a context it has read."""
    questions = [tokenize(p.rendered, method.model).suffix_ids for p in batch]

    def answer(rows: Sequence[int], decoding: Decoding) -> list[Generation]:
        return method.generate([reading.state] * len(rows), [questions[i] for i in rows], decoding)

    began = time.perf_counter()
    with observe(method.model.network, method.model.device, len(batch)) as meter:
        generations: Sequence[Generation | Scored]
        if batch[0].continuations:
            generations = score(type(method).__name__, answer, [p.continuations for p in batch])
        else:
            generations = answer(range(len(batch)), batch[0].decoding)
    return _asked(batch, generations, meter, time.perf_counter() - began, reading)


def _asked(
    batch: Sequence[Prepared],
    generations: Sequence[Generation | Scored],
    meter: Meter,
    seconds: float,
    reading: Reading | None,
) -> list[Asked]:
    if len(generations) != len(batch):
        raise RuntimeError(f"the method returned {len(generations)} answers to {len(batch)} prompts")
    return [
        Asked(g, check(g, meter, row, p.tokens), _cost(meter, seconds, len(batch), row, reading))
        for row, (p, g) in enumerate(zip(batch, generations))
    ]


def _cost(meter: Meter, seconds: float, batch: int, row: int, reading: Reading | None) -> Cost:
    """What one sample cost: its share of the batch, and of the compression it shared with other questions."""
    share = 1 if reading is None else reading.questions
    shared = Meter() if reading is None else reading.meter
    compressing = 0.0 if reading is None else reading.seconds
    phases = {
        f"{name}_seconds": value / batch + shared.seconds[name] / share
        for name, value in meter.seconds.items()
    }
    return Cost(
        seconds=seconds / batch + compressing / share,
        **phases,
        kv_bytes=None if meter.kv_bytes is None else meter.kv_bytes // batch,
        peak_bytes=max((p for p in (meter.peak_bytes, shared.peak_bytes) if p is not None), default=None),
        forwards=meter.forwards + shared.forwards,
        positions=meter.positions // batch + shared.positions // share,
        batch=batch,
        row=row,
        questions=share,
        saved_seconds=compressing * (share - 1) / share,
    )
