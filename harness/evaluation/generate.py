"""Running a method and measuring it: on one batch of prompts, or on several questions over one context."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..contracts.method import Method
from ..contracts.outputs import Decoding, Generation, Scored
from ..contracts.phases import phase
from ..contracts.record import Cost, Measured
from ..inference.likelihood import loglikelihood, score
from ..inference.meter import Meter, observe
from ..inference.verification import asked_of, proved
from .apart import apart

if TYPE_CHECKING:
    from ..contracts.prompt import Tail, TokenizedPrompt
    from .samples import PreparedSample


@dataclass
class MeasuredOutput:
    """One answer, or the likelihoods of a sample's choices, with what was measured while it was made.

    Attributes
    ----------
    doubts
        What could not be seen of how it was made, or is worth knowing, in words.
    by_layer
        KV entries of each layer when the answer began, as seen, where layers differ.
    """

    generation: Generation | Scored
    measured: Measured
    cost: Cost
    doubts: list[str] = field(default_factory=list)
    by_layer: tuple[int, ...] | None = None


@dataclass
class SharedContext:
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

    @property
    def paid(self) -> SharedContext:
        """The same state, for questions that do not bear its cost."""
        return SharedContext(self.state, Meter(), 0.0, 1)


OVER_BUDGET = "the answer began from more KV entries than --budget says: the method could not hold fewer"
"""Said of such an answer."""


def prepared_for(method: Method, prompts: Sequence[TokenizedPrompt]) -> Sequence[TokenizedPrompt]:
    """What a method may prepare for: all of it, or, if it is blind to questions, the same without their words."""
    if method.protocol == "query-aware":
        return prompts
    blank = method.model.pad_id
    return [
        replace(
            prompt,
            prompt=replace(prompt.prompt, suffix="", question=""),
            ids=(*prompt.head_ids, *[blank] * len(prompt.suffix_ids)),
            found=None,
        )
        for prompt in prompts
    ]


@contextmanager
def watching(method: Method, samples: int) -> Iterator[Meter]:
    """What the model is seen doing in the block; of a remote method nothing is, and its weights stay unread."""
    if method.remote:
        yield Meter()
        return
    with observe(method.model.network, method.model.device, samples) as meter:
        yield meter


def generate(method: Method, batch: Sequence[PreparedSample]) -> list[MeasuredOutput]:
    """The method's answers to a batch, or its likelihoods, in order."""
    prompts = [p.tokenized(method.model) for p in batch]
    began = time.perf_counter()
    with watching(method, len(batch)) as meter:
        generations: Sequence[Generation | Scored]
        if batch[0].continuations:
            generations = apart(loglikelihood, method, prompts, [p.continuations for p in batch])
        else:
            generations = apart(method.run, prompts, batch[0].decoding)
    return _held(method, batch, prompts, generations, meter, time.perf_counter() - began, None)


def compress_once(method: Method, group: Sequence[PreparedSample]) -> SharedContext:
    """Compress the context that the samples of `group` share."""
    first = group[0]
    head = first.tokenized(method.model).head_ids
    began = time.perf_counter()
    with watching(method, 1) as meter, phase("compress"):
        [state] = apart(method.compress, [head], [first.question_tokens], first.decoding)
    return SharedContext(state, meter, time.perf_counter() - began, len(group))


def generate_from(
    method: Method, shared: SharedContext, batch: Sequence[PreparedSample]
) -> list[MeasuredOutput]:
    """The method's answers to some of the questions over a context it has read."""
    prompts = [p.tokenized(method.model) for p in batch]
    questions = [prompt.suffix_ids for prompt in prompts]

    answer = _answering(method, shared.state, questions)
    began = time.perf_counter()
    with watching(method, len(batch)) as meter:
        generations: Sequence[Generation | Scored]
        if batch[0].continuations:
            generations = apart(score, type(method).__name__, answer, [p.continuations for p in batch])
        else:
            generations = apart(answer, range(len(batch)), batch[0].decoding)
    return _held(method, batch, prompts, generations, meter, time.perf_counter() - began, shared)


def _answering(
    method: Method, state: Any, questions: Sequence[Tail]
) -> Callable[[Sequence[int], Decoding], list[Generation]]:
    """A function that answers some of the questions, and holds nothing else of them."""

    def answer(rows: Sequence[int], decoding: Decoding) -> list[Generation]:
        return method.generate([state] * len(rows), [questions[i] for i in rows], decoding)

    return answer


def _held(
    method: Method,
    batch: Sequence[PreparedSample],
    prompts: Sequence[TokenizedPrompt],
    generations: Sequence[Generation | Scored],
    meter: Meter,
    seconds: float,
    shared: SharedContext | None,
) -> list[MeasuredOutput]:
    if len(generations) != len(batch):
        raise RuntimeError(f"the method returned {len(generations)} answers to {len(batch)} prompts")
    if method.remote:
        return [_unseen(answer, seconds, len(batch), row) for row, answer in enumerate(generations)]
    held = []
    for row, (sample, prompt, answer) in enumerate(zip(batch, prompts, generations)):
        asked = asked_of(method.model, prompt.ids, sample.decoding, row, generations)
        measured, doubts = proved(answer, meter, row, sample.tokens, asked)
        if method.budget is not None and measured.kv_tokens > method.budget:
            answer.details = {**answer.details, "notes": [*answer.details.get("notes", ()), OVER_BUDGET]}
        cost = _cost(meter, seconds, len(batch), row, shared)
        layers = None if (seen := meter.by_layer) is None else seen[row]
        held.append(MeasuredOutput(answer, measured, cost, doubts, layers))
    return held


def _unseen(answer: Generation | Scored, seconds: float, batch: int, row: int) -> MeasuredOutput:
    """An answer from elsewhere: only how long it took is known."""
    return MeasuredOutput(answer, Measured(), Cost(seconds=seconds / batch, batch=batch, row=row))


def _cost(meter: Meter, seconds: float, batch: int, row: int, shared: SharedContext | None) -> Cost:
    """What one sample cost: its share of the batch, and of the compression it shared with other questions."""
    compressed = shared or SharedContext(None, Meter(), 0.0, 1)
    share, before = compressed.questions, compressed.meter
    phases = {
        f"{name}_seconds": value / batch + before.seconds[name] / share
        for name, value in meter.seconds.items()
    }
    return Cost(
        seconds=seconds / batch + compressed.seconds / share,
        **phases,
        kv_bytes=None if meter.kv_bytes is None else meter.kv_bytes // batch,
        peak_bytes=max((p for p in (meter.peak_bytes, before.peak_bytes) if p is not None), default=None),
        forwards=meter.forwards + before.forwards,
        positions=meter.positions // batch + before.positions // share,
        batch=batch,
        row=row,
        questions=share,
        saved_seconds=compressed.seconds * (share - 1) / share,
    )
