"""Samples written from their plans, piece by piece: a text of ten million tokens is never in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from ..contracts.draft import Dialogue, Draft, Part
from ..contracts.recipe import Items


@dataclass(frozen=True)
class Layout:
    """Where everything in a sample's prompt is, computed from the pool's counts alone.

    Token counts are sums over the pieces, each tokenised on its own (with the blank before it, if any). For
    tokenizers that split text at line breaks before anything else (those made like GPT-2's, SmolLM2's
    among them) that is exact; for others a join may cost a token more or less.

    Attributes
    ----------
    prompt_tokens, answer_tokens
        Without chat template and special tokens.
    borders
        Characters at which prefix, context and suffix end.
    evidence
        ``{"passage": number from 1, "chars": [start, end], "tokens": [start, end]}`` of each passage the
        answer depends on: its text without the words of the template around it.
    turns
        Of a dialogue: what is known of each exchange, as it stands in its line.
    """

    prompt_tokens: int
    answer_tokens: int
    borders: tuple[int, int, int]
    evidence: list[dict[str, Any]] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens


def part_size(part: Part, pool: Items) -> tuple[int, int]:
    """(tokens, characters) of a piece. Words that end in one blank are counted without it: see `Stage`."""
    if part.source is not None:
        stage, index, name = part.source
        return pool.size(stage, name, index)
    text = part.text or ""
    return pool.count(text.removesuffix(" ")), len(text)


def layout(draft: Draft | Dialogue, pool: Items) -> Layout:
    """Measure a draft; time and memory grow with the number of passages, not with their length."""
    if isinstance(draft, Dialogue):
        return _turns(draft, pool)
    tokens, characters = part_size(Part(draft.prefix), pool)
    prefix_end = characters
    evidence = []
    for number, passage in enumerate(draft.passages, 1):
        spans = []
        for part in passage.parts:
            more_tokens, more_characters = part_size(part, pool)
            if part.source is not None:
                spans.append((characters, characters + more_characters, tokens, tokens + more_tokens))
            tokens += more_tokens
            characters += more_characters
        if passage.evidence:
            evidence.append(
                {
                    "passage": number,
                    "chars": [spans[0][0], spans[-1][1]],
                    "tokens": [spans[0][2], spans[-1][3]],
                }
            )
    more_tokens, more_characters = part_size(Part(draft.suffix), pool)
    borders = (prefix_end, characters, characters + more_characters)
    return Layout(tokens + more_tokens, pool.count(draft.answer), borders, evidence)


def _turns(dialogue: Dialogue, pool: Items) -> Layout:
    """As `layout`; places are counted from the dialogue's first character, the turns one after the other."""
    tokens = characters = answered = 0
    places: dict[tuple[str, int, str], tuple[list[int], list[int]]] = {}
    turns: list[dict[str, Any]] = []
    for exchange in dialogue.exchanges:
        begin = characters
        for part in exchange.read:
            more_tokens, more = part_size(part, pool)
            if part.source is not None:
                places[part.source] = ([characters, characters + more], [tokens, tokens + more_tokens])
            tokens, characters = tokens + more_tokens, characters + more
        turn = {"kind": exchange.kind, "about": list(exchange.about), "read": characters - begin}
        found = [places[source] for source in exchange.evidence if source in places]
        turn["evidence"] = [{"chars": chars, "tokens": span} for chars, span in found]
        turns.append(turn)
        question, answer = (
            [sum(sizes) for sizes in zip(*(part_size(part, pool) for part in parts))]
            for parts in (exchange.question, exchange.answer)
        )
        answered += answer[0]
        tokens += question[0] + answer[0]
        characters += question[1] + answer[1]
    return Layout(tokens - answered, answered, (0, 0, 0), [], turns)


def _written(parts: Sequence[Part], pool: Items) -> Iterator[str]:
    """Pieces as text, one record in memory at a time."""
    record: dict[str, Any] | None = None
    at: tuple[str, int] | None = None
    for part in parts:
        if part.source is None:
            yield part.text or ""
            continue
        stage, index, name = part.source
        if at != (stage, index):
            record, at = pool.record(stage, index), (stage, index)
        if record is None:
            raise AssertionError(f"a draft refers to {stage} {index}, which was dropped")
        yield str(record[name])


def texts(draft: Draft, pool: Items) -> Iterator[str]:
    """The prompt in pieces, in reading order; each passage's fields are read as they are needed."""
    yield draft.prefix
    for passage in draft.passages:
        yield from _written(passage.parts, pool)
    yield draft.suffix


class DataFile:
    """A file of samples that is written and hashed at the same time.

    Parameters
    ----------
    stream
        A binary file, open for writing.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """Of everything written so far, in hex."""
        return self._hash.hexdigest()

    def write(
        self, sample_id: str, task: str, draft: Draft | Dialogue, measured: Layout, pool: Items
    ) -> None:
        """One sample as one line of JSON; its prompt, or its turns, stand last and are written piece by piece."""
        if isinstance(draft, Dialogue):
            self._write_dialogue(sample_id, task, draft, measured, pool)
            return
        prefix_end, context_end, end = measured.borders
        head = {
            "id": sample_id,
            "task": task,
            "kind": draft.kind,
            "question": draft.question,
            "answer": draft.answer,
            "label": draft.label,
            "tokens": measured.tokens,
            "prompt_tokens": measured.prompt_tokens,
            "answer_tokens": measured.answer_tokens,
            "passages": len(draft.passages),
            "repeated_passages": draft.repeats,
            "prefix": [0, prefix_end],
            "context": [prefix_end, context_end],
            "suffix": [context_end, end],
            "evidence": measured.evidence,
        }
        if draft.learn != "answer":
            head["learn"] = draft.learn
        if draft.facts:
            head["facts"] = dict(draft.facts)
        self._put(json.dumps(head, ensure_ascii=False)[:-1] + ', "prompt": "')
        for text in texts(draft, pool):
            self._put(json.dumps(text, ensure_ascii=False)[1:-1])
        self._put('"}\n')

    def _write_dialogue(
        self, sample_id: str, task: str, draft: Dialogue, measured: Layout, pool: Items
    ) -> None:
        head = {
            "id": sample_id,
            "task": task,
            "kind": draft.kind,
            "tokens": measured.tokens,
            "prompt_tokens": measured.prompt_tokens,
            "answer_tokens": measured.answer_tokens,
            "documents": draft.documents,
            "missing_questions": draft.missing,
            "learn": draft.learn,
            "turns": measured.turns,
        }
        self._put(json.dumps(head, ensure_ascii=False)[:-1] + ', "messages": [')
        for number, exchange in enumerate(draft.exchanges):
            for role, parts in (("user", exchange.read + exchange.question), ("assistant", exchange.answer)):
                comma = "" if (number, role) == (0, "user") else ", "
                self._put(f'{comma}{{"role": "{role}", "content": "')
                for text in _written(parts, pool):
                    self._put(json.dumps(text, ensure_ascii=False)[1:-1])
                self._put('"}')
        self._put("]}\n")

    def _put(self, text: str) -> None:
        raw = text.encode()
        self._hash.update(raw)
        self._stream.write(raw)
        self.bytes += len(raw)
