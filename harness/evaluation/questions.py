"""Several questions over one context: asked of one compressed state, or each anew, and put together in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..contracts.outputs import Generation
from ..contracts.prompt import TokenizedPrompt
from ..contracts.record import AnswerRecord, Context, Cost, Measured, SampleRecord
from ..errors import MeasurementError
from ..prompts.questions import question_texts
from ..prompts.tokenization import encode
from .choices import cut_at
from .generate import MeasuredOutput, SharedContext, compress_once, generate, generate_from
from .plan import RunPlan
from .sample_record import checked
from .samples import PreparedSample
from .timeouts import SampleTimeout

if TYPE_CHECKING:
    from ..models.model import LanguageModel

SUMMED = ("seconds", "compress_seconds", "prefill_seconds", "decode_seconds", "forwards", "positions")
"""What the questions of a sample cost together; of memory the record has the highest."""


@dataclass
class Answers:
    """What is there of the answers to the questions of a sample.

    Attributes
    ----------
    records
        Of each question, in order; None where there is none yet.
    doubts
        What the harness noticed about the answers of this run.
    shared
        The context compressed once for all of them; None: for each anew.
    """

    records: list[AnswerRecord | None]
    doubts: list[str] = field(default_factory=list)
    shared: SharedContext | None = None

    @classmethod
    def begun(cls, prepared: PreparedSample, earlier: SampleRecord | None) -> Answers:
        """With the answers that an earlier, failed record of the sample has."""
        none: list[AnswerRecord | None] = [None] * len(prepared.questions)
        if earlier is None or len(earlier.answers) != len(none) or prepared.sample.turns == "own":
            return cls(none)
        answers = [None if answer.prediction is None else answer for answer in earlier.answers]
        return cls(answers, list(earlier.extra.get("doubts", ())))

    def half(self, failure: SampleRecord) -> SampleRecord:
        """The record of the sample that failed, with the answers there are and an empty one for each other question."""
        if not any(self.records):
            return failure
        answers = tuple(each or AnswerRecord() for each in self.records)
        return replace(failure, answers=answers, extra={**failure.extra, **self.noticed})

    @property
    def noticed(self) -> dict[str, list[str]]:
        """`doubts` as a record has them."""
        return {"doubts": self.doubts} if self.doubts else {}


def answer_questions(plan: RunPlan, prepared: PreparedSample, found: Answers, alone: bool = False) -> None:
    """Ask what has no answer yet: of one compressed context if the method and ``--protocol`` allow it.

    Parameters
    ----------
    found
        Gets the answers, each as soon as it is scored: what fails later loses none of them.
    alone
        Ask one question at a time, and the others before the failure of one is raised.
    """
    method = plan.method
    found.shared = None
    if plan.settings.share and method.shares_contexts:
        found.shared = compress_once(method, [prepared])  # with room for the longest question and answer
    shared = found.shared

    def ask(batch: Sequence[PreparedSample]) -> list[MeasuredOutput]:
        return generate(method, batch) if shared is None else generate_from(method, shared.paid, batch)

    def keep(number: int, output: MeasuredOutput) -> None:
        asked, question = prepared.questions[number], prepared.sample.questions[number]
        found.records[number] = _answer(asked, question.metadata, output)
        found.doubts += [doubt for doubt in output.doubts if doubt not in found.doubts]

    if prepared.sample.turns == "own":
        for number, output in enumerate(_in_turn(prepared, plan.model, ask)):
            keep(number, output)
        return
    failures = []
    size = 1 if alone else plan.batches.rows(prepared.tokens)
    for batch in _batches(prepared.questions, found.records, size):
        try:
            for number, output in zip(batch, ask([prepared.questions[number] for number in batch])):
                keep(number, output)
        except (MeasurementError, SampleTimeout):
            raise
        except Exception as error:
            if not alone:
                raise
            failures.append(error.with_traceback(None))
    if failures:
        raise failures[0]


def several_answered(head: SampleRecord, prepared: PreparedSample, found: Answers) -> SampleRecord:
    """The record of a sample whose questions are all answered."""
    answers = tuple(each for each in found.records if each is not None)
    n = len(answers)
    entries = sum(a.measured.kv_tokens for a in answers)
    read = sum((a.prompt_tokens or 1) - 1 for a in answers)
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
        extra={**head.extra, **found.noticed},
    )


def _batches(
    questions: Sequence[PreparedSample], records: Sequence[AnswerRecord | None], size: int
) -> list[list[int]]:
    """The numbers of the questions without an answer, in order, up to `size` of one way of decoding together."""
    batches: list[list[int]] = []
    for number, (asked, record) in enumerate(zip(questions, records)):
        if record is not None:
            continue
        if batches and len(batches[-1]) < size and questions[batches[-1][0]].decoding == asked.decoding:
            batches[-1].append(number)
        else:
            batches.append([number])
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
