"""Several questions over one context: the text of each, in pieces that are tokenised apart.

What stands before the questions must be the same for all of them, token for token, or nothing could be compressed
once; so the context is tokenised by itself, and so is each turn that follows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..contracts.prompt import Prompt, Span
from ..contracts.task import Question, Sample
from .rendering import render

if TYPE_CHECKING:
    from ..models.model import LanguageModel


@dataclass(frozen=True)
class QuestionText:
    """What follows the context up to where an answer begins.

    Attributes
    ----------
    parts
        Turns, each tokenised by itself, the question's own last.
    spans
        Characters of the joined parts that are the task's and no template's.
    """

    parts: tuple[str, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class _Piece:
    """A text and which of its characters are the task's."""

    text: str
    spans: tuple[Span, ...]


def question_texts(sample: Sample, model: LanguageModel) -> list[QuestionText]:
    """The text of each question of a sample, after those before it where turns follow each other.

    With ``turns="own"`` the answers in it are `Question.answer`: stand-ins for what will be answered.
    """
    pieces: list[tuple[_Piece, ...]] = [(_first(sample, question, model),) for question in sample.questions]
    if sample.turns != "apart":
        chain = pieces[0]
        for number, (before, question) in enumerate(zip(sample.questions, sample.questions[1:]), start=1):
            chain = (*chain, *follow_up(sample, before.answer, question, model))
            pieces[number] = chain
    return [_text(parts) for parts in pieces]


def joined(head: Prompt, sample: Sample, text: QuestionText, model: LanguageModel) -> Prompt:
    """A question after the (cut) context of its sample, rendered."""
    # Something has to follow, or a template that trims would take the context's last blanks.
    opening = render(replace(head, suffix="."), model, chat=sample.chat)
    start = len(opening.prefix) + len(opening.context)
    joints, place = [start] if start else [], start
    for part in text.parts[:-1]:
        place += len(part)
        joints.append(place)
    spans = tuple((a + start, b + start) for a, b in text.spans)
    data = opening.data
    if data is not None:
        data = ((data[0][0], start), *spans)
    return replace(opening, suffix="".join(text.parts), question="", joints=tuple(joints), data=data)


def follow_up(sample: Sample, answer: str, question: Question, model: LanguageModel) -> tuple[_Piece, ...]:
    """What is read between the end of a turn of the user and the next answer; the last piece holds the question.

    ``turns="reference"``: one piece, answer and question. ``"own"``: the answer by itself, which is replaced by the
    tokens that were generated, and the question as if it began a conversation, as SCBench's official code has it.
    """
    words, suffix = question.suffix, question.answer_prefix or sample.answer_prefix
    templated = sample.chat and model.has_chat_template
    if sample.turns == "own":
        own = _Piece(answer, ((0, len(answer)),))
        if not templated:
            return own, _Piece(question.joint + words + suffix, ((0, len(question.joint + words)),))
        asked = render(Prompt("", words, ""), model, chat=True)
        at = len(asked.prefix)
        return own, _Piece(asked.text + suffix, ((at, at + len(asked.context)),))
    if not templated:
        text = answer + question.joint + words
        return (_Piece(text + suffix, ((0, len(text)),)),)
    frame = model.chat_frame
    if frame.trims:
        answer, words = answer.strip(), words.strip()
    at = len(answer) + len(frame.between)
    text = answer + frame.between + words + frame.asked + suffix
    return (_Piece(text, ((0, len(answer)), (at, at + len(words)))),)


def _first(sample: Sample, question: Question, model: LanguageModel) -> _Piece:
    """A question right after the context."""
    prompt = Prompt(".", "", question.suffix, special_tokens=sample.prompt.special_tokens)
    rendered = render(
        prompt, model, chat=sample.chat, answer_prefix=question.answer_prefix or sample.answer_prefix
    )
    suffix = rendered.suffix
    own = rendered.data[0][1] - len(rendered.prefix) - len(rendered.context) if rendered.data else 0
    return _Piece(suffix, ((0, max(0, own)),))


def _text(pieces: tuple[_Piece, ...]) -> QuestionText:
    spans, place = [], 0
    for piece in pieces:
        spans += [(a + place, b + place) for a, b in piece.spans if b > a]
        place += len(piece.text)
    return QuestionText(tuple(p.text for p in pieces), tuple(spans))
