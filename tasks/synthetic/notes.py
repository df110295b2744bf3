"""Recursive query-focused summarisation: notes on chunks, merged until one request can read them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.contracts.recipe import Answer, Dropped, Items, Request, Stage

from .document_chunks import text_within
from .filters import clean, content_words, whole_sentences
from .selflong_prompts import MERGE, NOTE

NOTHING = "nothing"
MARK = 6
"""Tokens that a note takes beside its words, in a list of notes."""


class Notes:
    """The stages ``notes_1``, ``notes_2`` ...: of each instruction a note a chunk, then one for each group of notes.

    Note p of instruction i on a level has the index ``i * width + p``. A note on something irrelevant is kept as an
    empty one, so that a group is known by its numbers; what there is nothing of is never asked.

    Parameters
    ----------
    chunks_of
        The chunks that an instruction's documents consist of, in order.
    instruction_of
        The instruction's words; None if it was dropped.
    widest
        Most chunks an instruction reads.
    fan
        Notes that one request can read; at least 2.
    chunk_tokens, note_tokens
        Most tokens of a chunk and of a note.
    """

    def __init__(
        self,
        chunks_of: Callable[[int, Items], Sequence[int]],
        instruction_of: Callable[[int, Items], str | None],
        widest: int,
        fan: int,
        chunk_tokens: int,
        note_tokens: int,
    ) -> None:
        self.chunks_of, self.instruction_of, self.fan = chunks_of, instruction_of, fan
        self.chunk_tokens, self.note_tokens = chunk_tokens, note_tokens
        self.widths = [widest]
        while self.widths[-1] > fan:
            self.widths.append(-(-self.widths[-1] // fan))

    def stages(self, instructions: int) -> list[Stage]:
        """A stage a level; the last one has notes that one request can read."""
        return [
            Stage(
                f"notes_{level}",
                instructions * width,
                self.note_tokens // 2 if level == 1 else self.note_tokens // 4,
                self._ask(level),
                self._judge(level),
            )
            for level, width in enumerate(self.widths, 1)
        ]

    def last(self, instruction: int, pool: Items) -> str:
        """What there is to answer from: the notes of the last level that are not empty; may be nothing."""
        width = self.widths[-1]
        return self._joined(len(self.widths), range(instruction * width, (instruction + 1) * width), pool)

    def useful(self, instruction: int, pool: Items) -> list[int]:
        """The chunks that something was noted of."""
        begin = instruction * self.widths[0]
        return [
            chunk
            for place, chunk in enumerate(self.chunks_of(instruction, pool)[: self.widths[0]])
            if (pool.record("notes_1", begin + place) or {}).get("text")
        ]

    def _ask(self, level: int) -> Callable[[int, Items], Request | dict[str, Any] | None]:
        def ask(index: int, pool: Items) -> Request | dict[str, Any] | None:
            number, place = divmod(index, self.widths[level - 1])
            instruction = self.instruction_of(number, pool)
            if instruction is None:
                return None
            if level == 1:
                text = self._chunk(number, place, pool)
                prompt = NOTE
            else:
                below = self._below(level, number, place)
                text = self._joined(level - 1, below, pool)
                if sum(bool((pool.record(f"notes_{level - 1}", i) or {}).get("text")) for i in below) == 1:
                    return {"text": text.removeprefix("- ")}
                prompt = MERGE
            if not text:
                return None
            words = prompt.format(instruction=instruction, text=text)
            return Request(f"notes_{level} {index}", words, self.note_tokens, 0.1, 10)

        return ask

    def _judge(self, level: int) -> Callable[[int, Items, Answer], dict[str, Any] | Dropped]:
        def judge(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            text = " ".join(clean(answer.text, ("Summary",)).split())
            if not answer.ended:
                text = whole_sentences(text)
            number, place = divmod(index, self.widths[level - 1])
            if level == 1:
                read = self._chunk(number, place, pool)
            else:
                read = self._joined(level - 1, self._below(level, number, place), pool)
            relevant = not text.lower().startswith(NOTHING) and content_words(text) & content_words(read)
            return {"text": text if relevant else ""}

        return judge

    def _chunk(self, instruction: int, place: int, pool: Items) -> str:
        chunks = self.chunks_of(instruction, pool)
        return text_within(pool, chunks[place], self.chunk_tokens) if place < len(chunks) else ""

    def _below(self, level: int, instruction: int, place: int) -> range:
        width = self.widths[level - 2]
        begin = place * self.fan
        return range(instruction * width + begin, instruction * width + min(begin + self.fan, width))

    def _joined(self, level: int, indices: Sequence[int], pool: Items) -> str:
        found = ((pool.record(f"notes_{level}", i) or {}).get("text") for i in indices)
        return "\n".join(f"- {text}" for text in found if text)
