"""Summaries of documents: of chunks, of sections (medium chunks), and of the whole, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.contracts.recipe import Answer, Dropped, Items, Request, Stage

from .document_chunks import CHUNK, DocumentChunks, text_within
from .filters import about, content_words, prose
from .hierarchical_prompts import CHUNK_SUMMARY, GLOBAL_SUMMARY, WORDS

LEAST_WORDS = 4
"""Words a summary must have to be kept."""


class Summaries:
    """The stages ``chunk_summary``, ``section_summary``, ``part_summary`` and ``global_summary``.

    A section's summary is written from its text, the global one from the sections' summaries; where these are more
    than one request can read, parts of them are summarised first.

    Parameters
    ----------
    chunks
        The documents.
    group
        Chunks of a section.
    tokens
        Most tokens of a chunk.
    summary_tokens
        Most tokens of a summary.
    window
        Tokens the generator reads.
    """

    def __init__(
        self, chunks: DocumentChunks, group: int, tokens: int, summary_tokens: int, window: int
    ) -> None:
        self.chunks, self.group, self.tokens, self.summary_tokens = chunks, group, tokens, summary_tokens
        self.fan = max(2, (window - WORDS - summary_tokens) // (summary_tokens + 2))
        self.sections = chunks.numbers.groups(group)
        self.parts = self.sections.groups(self.fan)

    def stages(self, documents: int) -> list[Stage]:
        """In the order they build on one another, for the first so many documents."""
        return [
            self._stage("chunk_summary", self.chunks.numbers.upto(documents), self.chunk_text, CHUNK_SUMMARY),
            self._stage("section_summary", self.sections.upto(documents), self.section_text, CHUNK_SUMMARY),
            self._stage("part_summary", self.parts.upto(documents), self.part_text, GLOBAL_SUMMARY),
            self._stage("global_summary", documents, self.global_text, GLOBAL_SUMMARY),
        ]

    def chunk_text(self, index: int, pool: Items) -> str:
        """The text of a chunk, as far as a request may hold it."""
        return text_within(pool, index, self.tokens) if pool.record(CHUNK, index) is not None else ""

    def section_text(self, index: int, pool: Items) -> str:
        """The text of a section's chunks."""
        found = self.chunks.numbers.members(index, self.sections, self.group)
        return "\n".join(text for chunk in found if (text := self.chunk_text(chunk, pool)))

    def part_text(self, index: int, pool: Items) -> str:
        """Summaries of a part's sections; nothing where the part is all of its document."""
        if index >= len(self.parts) or len(self.parts.of(self.parts.document(index))) == 1:
            return ""
        return texts(pool, "section_summary", self.sections.members(index, self.parts, self.fan))

    def global_text(self, index: int, pool: Items) -> str:
        """What a document's summary is written from."""
        if index >= len(self.chunks):
            return ""
        parts = self.parts.of(index)
        if len(parts) > 1:  # as many as can be read; more than fan * fan sections are a document of millions
            return texts(pool, "part_summary", parts[: self.fan])
        return texts(pool, "section_summary", self.sections.of(index))

    def _stage(self, name: str, size: int, text_of: Callable[[int, Items], str], prompt: str) -> Stage:
        def ask(index: int, pool: Items) -> Request | dict[str, Any] | None:
            text = text_of(index, pool)
            if not text:
                return None
            if name == "global_summary" and len(self.sections.of(index)) == 1:
                return {"text": text}
            return Request(f"{name} {index}", prompt.format(text=text), self.summary_tokens, 0.1, 10)

        def judge(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            found = self._judged(name, answer, text_of(index, pool))
            return found if isinstance(found, Dropped) else {"text": " ".join(found.split())}

        return Stage(name, size, self.summary_tokens // 2, ask, judge)

    def _judged(self, name: str, answer: Answer, text: str) -> str | Dropped:
        if name in ("chunk_summary", "section_summary"):
            return about(answer, text, LEAST_WORDS, ("Summary",))
        found = prose(answer, LEAST_WORDS, ("Summary",))  # of summaries, which may hardly be longer
        if not isinstance(found, Dropped) and len(content_words(found) & content_words(text)) < 2:
            return Dropped("unanswerable")
        return found


def texts(pool: Items, stage: str, indices: Sequence[int]) -> str:
    """The field ``text`` of those records that there are, a line each."""
    found = (pool.record(stage, index) for index in indices)
    return "\n".join(str(record["text"]) for record in found if record is not None)
