"""Several questions over one context: asked of one compressed state, or each anew, and put together in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..contracts.outputs import Generation
from ..contracts.prompt import TokenizedPrompt
from ..contracts.record import AnswerRecord, Context, Cost, Measured, SampleRecord
from ..prompts.questions import question_texts
from ..prompts.tokenization import encode
from .choices import cut_at
from .generate import MeasuredOutput, SharedContext, compress_once, generate, generate_from
from .plan import RunPlan
from .sample_record import checked
from .samples import PreparedSample

if TYPE_CHECKING:
    from ..models.model import LanguageModel

SUMMED = ("seconds", "compress_seconds", "prefill_seconds", "decode_seconds", "forwards", "positions")
"""What the questions of a sample cost together; of memory the record has the highest."""


@dataclass
class Answers:
    """What a method gave to the questions of a sample, in order.

    Attributes
    ----------
    shared
        The context compressed once for all of them; None: for each anew.
    """

    outputs: list[MeasuredOutput]
    shared: SharedContext | None


def answer_questions(plan: RunPlan, prepared: PreparedSample) -> Answers:
    """Ask all questions: from one compressed context if the method and ``--protocol`` allow it."""
    method = plan.method
    shared = None
    if plan.settings.share and method.shares_contexts:
        shared = compress_once(method, [prepared])  # with room for the longest question and answer

    def ask(batch: Sequence[PreparedSample]) -> list[MeasuredOutput]:
        return generate(method, batch) if shared is None else generate_from(method, shared.paid, batch)

    if prepared.sample.turns == "own":
        return Answers(_in_turn(prepared, plan.model, ask), shared)
    outputs: list[MeasuredOutput] = []
    for batch in _batches(prepared.questions, plan.batches.rows(prepared.tokens)):
        outputs += ask(batch)
    return Answers(outputs, shared)


def several_answered(head: SampleRecord, prepared: PreparedSample, found: Answers) -> SampleRecord:
    """The record of a sample with its answers and their scores. Raises whatever the task's scoring raises."""
    answers = tuple(
        _answer(asked, question.metadata, output)
        for asked, question, output in zip(
            prepared.questions, prepared.sample.questions, found.outputs, strict=True
        )
    )
    n = len(answers)
    entries = sum(a.measured.kv_tokens for a in answers)
    read = sum((a.prompt_tokens or 1) - 1 for a in answers)
    told = list(dict.fromkeys(doubt for output in found.outputs for doubt in output.doubts))
    reasons = {a.stop_reason for a in answers}
    return replace(
        head,
        scores={metric: sum(a.scores[metric] for a in answers) / n for metric in answers[0].scores},
        new_tokens=sum(a.new_tokens or 0 for a in answers),
        stop_reason=reasons.pop() if len(reasons) == 1 else "several",
        prompt_tokens=round(sum(a.prompt_tokens or 0 for a in answers) / n),
        measured=Measured(
            round(entries / n), all(a.measured.verified for a in answers), read / entries if entries else None
        ),
        declared_kv_tokens=round(sum(a.declared_kv_tokens or 0 for a in answers) / n),
        details=answers[0].details,
        cost=_together(found.shared, [a.cost for a in answers]),
        context=_context(prepared, found.shared, n),
        answers=answers,
        extra={**head.extra, **({"doubts": told} if told else {})},
    )


def _batches(questions: Sequence[PreparedSample], size: int) -> list[list[PreparedSample]]:
    """The questions in their order, up to `size` of one way of decoding together."""
    batches: list[list[PreparedSample]] = []
    for asked in questions:
        if batches and len(batches[-1]) < size and batches[-1][0].decoding == asked.decoding:
            batches[-1].append(asked)
        else:
            batches.append([asked])
    return batches


def _in_turn(
    prepared: PreparedSample,
    model: LanguageModel,
    ask: Callable[[Sequence[PreparedSample]], list[MeasuredOutput]],
) -> list[MeasuredOutput]:
    """Each question after the ones before it and the tokens that answered them."""
    texts = question_texts(prepared.sample, model)
    outputs: list[MeasuredOutput] = []
    so_far: TokenizedPrompt | None = None
    for asked, text in zip(prepared.questions, texts):
        planned = asked.tokenized(model)
        if so_far is not None:
            last = text.parts[-1]
            spans = [(a, b) for a, b in _last_spans(text.spans, sum(map(len, text.parts[:-1])))]
            data = spans if asked.rendered.data is not None else None
            ids = encode(model.tokenizer, last, special=False, data=data).ids
            planned = replace(so_far, prompt=asked.rendered, ids=(*so_far.ids, *ids))
        [output] = ask([replace(asked, given=planned, tokens=len(planned))])
        outputs.append(output)
        so_far = replace(planned, ids=(*planned.ids, *_closed(output, model)))
    return outputs


def _last_spans(spans: Sequence[tuple[int, int]], start: int) -> list[tuple[int, int]]:
    return [(a - start, b - start) for a, b in spans if a >= start]


def _closed(output: MeasuredOutput, model: LanguageModel) -> list[int]:
    """The tokens of an answer, with an end token after one that was cut off."""
    given = output.generation
    assert isinstance(given, Generation)
    if given.stop_reason == "eos":
        return list(given.token_ids)
    end = model.tokenizer.eos_token_id
    usable = isinstance(end, int) and end < model.config.vocab_size
    return [*given.token_ids, end if usable else model.end_ids[0]]


def _answer(asked: PreparedSample, own: Mapping[str, Any], output: MeasuredOutput) -> AnswerRecord:
    given = output.generation
    assert isinstance(given, Generation)
    text = cut_at(given.text, asked.sample.until)
    return AnswerRecord(
        prediction=text,
        references=tuple(asked.sample.references),
        scores=checked(asked, asked.task.score(asked.sample, text)),
        metadata=own,
        prompt_tokens=given.prompt_tokens,
        new_tokens=len(given.token_ids),
        stop_reason=given.stop_reason,
        measured=output.measured,
        declared_kv_tokens=given.kv_tokens,
        details=given.details,
        cost=output.cost,
    )


def _context(prepared: PreparedSample, shared: SharedContext | None, questions: int) -> Context:
    """What the record says of the context."""
    tokens = prepared.questions[0].tokens - prepared.questions[0].question_tokens
    if shared is None:
        return Context(tokens, prepared.context_hash, questions)
    return Context(tokens, prepared.context_hash, 1, shared.seconds, shared.meter.positions)


def _together(shared: SharedContext | None, costs: Sequence[Cost]) -> Cost:
    """What a sample cost: its one compression, if there was one, and all answers."""
    sums: dict[str, Any] = {}
    for name in SUMMED:
        values = [value for cost in costs if (value := getattr(cost, name)) is not None]
        sums[name] = sum(values) if values else None
    peaks = [cost.peak_bytes for cost in costs if cost.peak_bytes is not None]
    sizes = [cost.kv_bytes for cost in costs if cost.kv_bytes is not None]
    saved = 0.0
    if shared is not None:
        meter = shared.meter
        sums["seconds"] += shared.seconds
        for phase, seconds in meter.seconds.items():
            sums[f"{phase}_seconds"] = (sums[f"{phase}_seconds"] or 0) + seconds
        sums["forwards"] = (sums["forwards"] or 0) + meter.forwards
        sums["positions"] = (sums["positions"] or 0) + meter.positions
        peaks += [meter.peak_bytes] if meter.peak_bytes is not None else []
        saved = shared.seconds * (len(costs) - 1)
    return Cost(
        **sums,
        kv_bytes=max(sizes, default=None),
        peak_bytes=max(peaks, default=None),
        batch=1,
        row=0,
        questions=len(costs) if shared is not None else 1,
        saved_seconds=saved,
    )
