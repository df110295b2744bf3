"""The recipe of SelfLong: Wang et al., "Bootstrap Your Own Context Length" (https://arxiv.org/abs/2412.18860)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from harness.contracts.draft import Draft, Part, Passage
from harness.contracts.recipe import (
    Answer,
    Draw,
    Dropped,
    Items,
    LengthRange,
    NoItems,
    Recipe,
    Request,
    Stage,
    TooShort,
)
from harness.errors import UsageError

from . import retrieval
from .document_chunks import CHUNK, DocumentChunks, no_answer, text_within
from .echoes import REASON, Echo
from .filling import Deck, fill, in_turn
from .filters import clean, prose, repetition, words
from .notes import MARK, Notes
from .selflong_options import SelfLongOptions
from .selflong_prompts import ASKED, INSTRUCTION, RESPONSE, WORDS, WRITING

LEAST, MOST = 5, 120
"""Words an instruction may have."""
RANKED = 1024
"""Documents of a ranking that are kept: a longer sample takes the further ones from there."""
SLACK = 16
"""Tokens kept free for numbers that are not known before documents are shuffled."""


class SelfLong(Recipe):
    """Instructions over a collection, answered from notes on what is found for them; and long texts written anew.

    ``long_input``: a random chunk inspires an instruction, documents are found for it, their chunks are summarised for
    it step by step, and a response is written from that; the sample holds the documents themselves. ``long_output``:
    an instruction is written for a document, which is the answer; it names the length. The proportion of the two is
    the paper's, as is the loss on the whole of a long input. Its prompts were not found, so they are ours.
    """

    Options = SelfLongOptions
    version: ClassVar[str] = "2"
    changelog: ClassVar[tuple[str, ...]] = (
        "1: first version",
        "2: each response is used once before any again",
    )
    tasks: ClassVar[Mapping[str, int]] = {"long_input": 69_000, "long_output": 10_000}
    options: SelfLongOptions

    def __init__(self, options: SelfLongOptions) -> None:
        super().__init__(options)
        self.chunks = DocumentChunks("selflong", options.documents, options.chunk_tokens)
        self._facts = retrieval.facts(options.retriever, options.dense_model)
        o = options
        self.fan = min(
            (o.window - WORDS - o.instruction_tokens - answer) // (o.summary_tokens + MARK)
            for answer in (o.summary_tokens, o.response_tokens)
        )
        for what, (prompt, answer) in self.requests().items():
            if prompt + answer > o.window:
                raise UsageError(
                    f"recipe selflong: {what} takes {prompt:,} tokens and {answer:,} of answer, {prompt + answer:,} "
                    f"in all, more than window={o.window:,}; make its texts smaller"
                )
        self.notes = Notes(
            self._read,
            self._instruction,
            -(-o.read_tokens // o.chunk_tokens),
            self.fan,
            o.chunk_tokens,
            o.summary_tokens,
        )
        self._written: list[int] | None = None

    def sources(self) -> dict[str, Any]:
        """The documents by the SHA-256 of what is in them, and what ranks them."""
        found = {"documents": self.chunks.documents.sha256, "retriever": self._facts}
        if self.options.retriever == "dense":
            found["dense_model"] = self._facts["model"]
        return found

    def requests(self) -> Mapping[str, tuple[int, int]]:
        """The longest kinds of request; merged notes are as many as fit, two at least."""
        o = self.options
        two = 2 * (o.summary_tokens + MARK) + WORDS + o.instruction_tokens
        return {
            "a note on a chunk": (o.chunk_tokens + WORDS + o.instruction_tokens, o.summary_tokens),
            "an instruction": (o.seed_tokens + WORDS, o.instruction_tokens),
            "a response from two notes": (two, o.response_tokens),
            "a writing instruction": (o.chunk_tokens + WORDS, o.instruction_tokens),
        }

    def items(self, count: int, nouns: int) -> int:
        """An instruction a sample."""
        return max(4, count)

    def stages(self, items: int, seed: int) -> list[Stage]:
        """Chunks, instructions, what is found for them, notes level by level, responses; writing instructions."""
        o = self.options
        self._seed = seed
        writing = max(1, round(items * self.tasks["long_output"] / self.tasks["long_input"]))
        return [
            self.chunks.stage(len(self.chunks)),
            Stage("instruction", items, o.instruction_tokens // 2, self._ask_instruction, _instruction),
            Stage("retrieved", items, 0, self._ask_retrieved, no_answer),
            *self.notes.stages(items),
            Stage("response", items, o.response_tokens // 2, self._ask_response, self._response),
            Stage("writing", writing, o.instruction_tokens // 2, self._ask_writing, _instruction),
        ]

    def draft(self, task: str, pool: Items, rng: Draw, length: LengthRange | None) -> Draft:
        """One sample of a task; see the class."""
        return self._long_output(pool, rng) if task == "long_output" else self._long_input(pool, rng, length)

    # --- items

    def _ask_instruction(self, index: int, pool: Items) -> Request:
        chunk = random.Random(f"{self._seed}-seed-{index}").choice(pool.usable(CHUNK))
        text = text_within(pool, chunk, self.options.seed_tokens)
        return Request(
            f"instruction {index}", INSTRUCTION.format(text=text), self.options.instruction_tokens, 0.7, 50
        )

    def _instruction(self, index: int, pool: Items) -> str | None:
        found = pool.record("instruction", index)
        return None if found is None else str(found["text"])

    @cached_property
    def _retriever(self) -> retrieval.Retriever:
        o = self.options
        texts = (document.text for document in self.chunks.documents)
        return retrieval.make(o.retriever, texts, len(self.chunks), self._seed, o.dense_model)

    def _ask_retrieved(self, index: int, pool: Items) -> dict[str, Any] | None:
        """The ranking, and how many of its first documents are read for the response."""
        instruction = self._instruction(index, pool)
        if instruction is None:
            return None
        ranked = self._retriever.search(instruction, RANKED)
        read = total = 0
        for document in ranked:
            total += self.chunks.tokens(pool, document)
            if total > self.options.read_tokens and read:
                break
            read += 1
        return {"documents": ranked, "read": read}

    def _read(self, index: int, pool: Items) -> Sequence[int]:
        """Chunks of the documents that are read for an instruction."""
        found = pool.record("retrieved", index) or {"documents": [], "read": 0}
        documents = found["documents"][: found["read"]]
        return [chunk for document in documents for chunk in self.chunks.of(document)]

    def _ask_response(self, index: int, pool: Items) -> Request | None:
        instruction, notes = self._instruction(index, pool), self.notes.last(index, pool)
        if instruction is None or not notes:
            return None
        prompt = RESPONSE.format(instruction=instruction, text=notes)
        return Request(f"response {index}", prompt, self.options.response_tokens, 0.7, 50)

    def _response(self, index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
        text = prose(answer, LEAST, ("Response",))
        return text if isinstance(text, Dropped) else {"text": text}

    def _to_write(self, pool: Items) -> list[int]:
        """Documents short and long enough to be written anew, in random order."""
        if self._written is None:
            low, high = map(int, self.options.output_range.split("-"))
            found = [d for d in range(len(self.chunks)) if low <= self.chunks.tokens(pool, d) <= high]
            random.Random(f"{self._seed}-writing").shuffle(found)
            self._written = found
        return self._written

    def _ask_writing(self, index: int, pool: Items) -> Request | None:
        documents = self._to_write(pool)
        if index >= len(documents):
            return None
        text = text_within(pool, self.chunks.of(documents[index]).start, self.options.chunk_tokens)
        prompt = WRITING.format(text=text, words=_about(self._document(documents[index], pool)))
        return Request(f"writing {index}", prompt, self.options.instruction_tokens, 0.7, 50)

    def _document(self, document: int, pool: Items) -> str:
        return "".join(
            str((pool.record(CHUNK, chunk) or {"text": ""})["text"]) for chunk in self.chunks.of(document)
        )

    # --- samples

    def _long_input(self, pool: Items, rng: Draw, length: LengthRange | None) -> Draft:
        index = in_turn(rng, pool.usable("response"), f"{self._seed}-inputs")
        instruction = self._instruction(index, pool) or ""
        answer = str((pool.record("response", index) or {})["text"])
        found = pool.record("retrieved", index) or {"documents": [], "read": 0}
        used = {self.chunks.numbers.document(chunk) for chunk in self.notes.useful(index, pool)}
        needed = [d for d in found["documents"] if d in used]
        cost = self._cost(pool)
        total = sum(cost(d, n) for n, d in enumerate(needed, 1))
        total += pool.count(instruction) + pool.count(answer) + SLACK
        if length is None:
            documents = needed + [d for d in found["documents"][: found["read"]] if d not in used]
            repeats = 0
        else:
            documents, repeats = self._longer(needed, found["documents"], total, length, rng, cost)
        rng.shuffle(documents)
        passages = [Passage(self._parts(pool, d, n), d in used) for n, d in enumerate(documents, 1)]
        return Draft(
            "long_input", "", passages, instruction, answer, question=instruction, repeats=repeats,
            learn=self.options.learn,
        )  # fmt: skip

    def _longer(
        self,
        needed: list[int],
        ranked: list[int],
        total: int,
        length: LengthRange,
        rng: Draw,
        cost: Any,
    ) -> tuple[list[int], int]:
        """Up to a length: what the response needs, then the ranking downwards, then documents at random."""
        if total > length.high:
            raise TooShort(total)
        target, taken, have = rng.randint(length.low, length.high), list(needed), set(needed)
        for document in ranked:
            more = cost(document, len(taken) + 1)
            if document not in have and total + more <= target:
                taken.append(document)
                have.add(document)
                total += more
        deck = Deck(rng, range(len(self.chunks)), lambda document: document in have)
        others, repeats = fill(deck, target, length, total, len(taken), cost)
        return taken + others, repeats

    def _parts(self, pool: Items, document: int, number: int) -> tuple[Part, ...]:
        title = str((pool.record(CHUNK, self.chunks.of(document).start) or {}).get("title") or "")
        head = f"Document {number}" + (f" ({title})" if title else "")
        return (Part(f"{head}:\n"), *self.chunks.parts(document), Part("\n\n"))

    def _cost(self, pool: Items) -> Any:
        def cost(document: int, number: int) -> int:
            parts = self._parts(pool, document, number)
            return self.chunks.tokens(pool, document) + sum(
                pool.count(p.text or "") for p in (parts[0], parts[-1])
            )

        return cost

    def _long_output(self, pool: Items, rng: Draw) -> Draft:
        index = in_turn(rng, pool.usable("writing"), f"{self._seed}-outputs")
        documents = self._to_write(pool)
        if index >= len(documents):
            raise NoItems("no document to write")
        text = self._document(documents[index], pool)
        asked = _about(text)
        instruction = ASKED.format(instruction=(pool.record("writing", index) or {})["text"], words=asked)
        return Draft("long_output", "", [], instruction, text, facts={"asked_words": asked})


def _about(text: str) -> int:
    """Words of a text as one would ask for them: to two digits."""
    number = len(text.split())
    digits = max(0, len(str(number)) - 2)
    return int(round(number, -digits))


def _instruction(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
    """An instruction: one paragraph, whole, of some words."""
    text = clean(answer.text, ("Instruction", "Task")).split("\n\n")[0]
    text = " ".join(text.split()).strip('"“”')
    if not text:
        return Dropped("empty")
    if not answer.ended and not text.endswith((".", "?", "!")):
        return Dropped("truncated")
    if not LEAST <= len(words(text)) <= MOST:
        return Dropped("too short" if len(words(text)) < LEAST else "too long")
    if text.lower().startswith(_ABOUT_ITSELF) or _ECHO.in_text(text):
        return Dropped(REASON)
    return Dropped("repetitive") if repetition(text) > 0.25 else {"text": text}


_ABOUT_ITSELF = ("i ", "i'", "i’", "sure", "here is", "here's", "the instruction", "this instruction")
"""How small models begin when they speak of their task instead of writing an instruction."""

_ECHO = Echo(INSTRUCTION, WRITING)
