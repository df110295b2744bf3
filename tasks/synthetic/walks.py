"""The questions of the recipe `hierarchical`: walks from the whole document down into a chunk, and diverse ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from harness.contracts.recipe import Answer, Dropped, Items, Request, Stage

from .echoes import REASON, Echo
from .filters import pair, reply
from .hierarchical_prompts import ANSWER, DEEPER, LOCAL, MULTI_HOP, TOP
from .summaries import Summaries, texts

LEVELS = ("top", "section", "detail")
"""The order of a walk: the document as a whole, a section of it, a chunk of that section."""
DIVERSE = ("local", "multi_hop")
HOPS = 3
"""Chunks that a multi-hop question is written from."""
_ECHO = Echo(TOP, DEEPER, LOCAL, MULTI_HOP, ANSWER, natural="the document as a whole")


class Asked(NamedTuple):
    """What a question is written from: the instruction, the text, and the chunks that are evidence for it."""

    prompt: str
    text: str
    chunks: Sequence[int]


class Questions:
    """Stages of question-answer pairs: of each kind so many a document, in the order of the documents.

    Pair n of a document and a kind has the index ``document * number + n``. Where a model stopped after the question,
    the answer is asked for in a stage of its own. A record holds ``question``, ``answer`` and ``chunks``.

    Parameters
    ----------
    summaries
        What questions about more than a chunk are written from.
    walks, diverse
        How many walks, and how many questions of each diverse kind, a document has.
    qa_tokens
        Most tokens of a question with its answer.
    seed
        Of every draw.
    """

    def __init__(self, summaries: Summaries, walks: int, diverse: int, qa_tokens: int, seed: int) -> None:
        self.summaries, self.tokens, self.seed = summaries, qa_tokens, seed
        self.numbers = {**dict.fromkeys(LEVELS, walks), **dict.fromkeys(DIVERSE, diverse)}

    def stages(self, documents: int) -> list[Stage]:
        """Each kind's questions, and then its pairs."""
        sources: dict[str, Callable[[int, int, Items], Asked | None]] = {
            "top": self._top,
            "section": self._section,
            "detail": self._detail,
            "local": self._local,
            "multi_hop": self._multi_hop,
        }
        found: list[Stage] = []
        for kind, source in sources.items():
            if self.numbers[kind]:
                found += self._two(kind, documents * self.numbers[kind], source)
        return found

    def of(self, kind: str, document: int) -> range:
        """Indices of a document's pairs of a kind."""
        return range(document * self.numbers[kind], (document + 1) * self.numbers[kind])

    def _two(
        self, kind: str, size: int, source: Callable[[int, int, Items], Asked | None]
    ) -> tuple[Stage, Stage]:
        def asked(index: int, pool: Items) -> Asked | None:
            document, number = divmod(index, self.numbers[kind])
            found = source(document, number, pool) if document < len(self.summaries.chunks) else None
            return found if found is not None and found.text else None

        def ask(index: int, pool: Items) -> Request | None:
            found = asked(index, pool)
            return (
                None
                if found is None
                else Request(f"{kind}_question {index}", found.prompt, self.tokens, 0.7, 50)
            )

        def judge(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            found = asked(index, pool)
            assert found is not None
            made = pair(answer, found.text)
            if isinstance(made, Dropped):
                return made
            if _ECHO.is_question(made[0], found.text) or _ECHO.in_text(made[1]):
                return Dropped(REASON)
            return {"question": made[0], "answer": made[1], "chunks": list(found.chunks)}

        def answer_of(index: int, pool: Items) -> Request | dict[str, Any] | None:
            record, found = pool.record(f"{kind}_question", index), asked(index, pool)
            if record is None or found is None:
                return None
            if record["answer"]:
                return {name: record[name] for name in ("question", "answer", "chunks")}
            prompt = ANSWER.format(text=found.text, question=record["question"])
            return Request(f"{kind} {index}", prompt, self.tokens, 0.1, 10)

        def keep(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
            record, found = pool.record(f"{kind}_question", index) or {}, asked(index, pool)
            made = reply(answer, str(record["question"]), found.text if found else "")
            if isinstance(made, Dropped):
                return made
            return Dropped(REASON) if _ECHO.in_text(made) else {**_without(record), "answer": made}

        expected = int(self.tokens * 0.4)
        return (
            Stage(f"{kind}_question", size, expected, ask, judge),
            Stage(kind, size, expected, answer_of, keep, {"question": " ", "answer": " "}),
        )

    def _random(self, kind: str, document: int, number: int) -> random.Random:
        return random.Random(f"{self.seed}-{kind}-{document}-{number}")

    def _place(self, document: int, walk: int) -> tuple[int, int]:
        """The section and the chunk that a walk comes down to: sections in random order, each once before any twice."""
        sections = list(self.summaries.sections.of(document))
        random.Random(f"{self.seed}-walks-{document}-{walk // len(sections)}").shuffle(sections)
        section = sections[walk % len(sections)]
        s = self.summaries
        inside = s.chunks.numbers.members(section, s.sections, s.group)
        return section, self._random("detail", document, walk).choice(inside)

    def _top(self, document: int, walk: int, pool: Items) -> Asked | None:
        section, _ = self._place(document, walk)
        text, more = (
            texts(pool, name, [i]) for name, i in (("global_summary", document), ("section_summary", section))
        )
        whole = self.summaries.chunks.of(document)
        return Asked(TOP.format(text=text, more=more or text), text, whole) if text else None

    def _section(self, document: int, walk: int, pool: Items) -> Asked | None:
        section, _ = self._place(document, walk)
        s = self.summaries
        chunks = s.chunks.numbers.members(section, s.sections, s.group)
        return self._deeper("top", document, walk, pool, s.section_text(section, pool), chunks)

    def _detail(self, document: int, walk: int, pool: Items) -> Asked | None:
        _, chunk = self._place(document, walk)
        text = self.summaries.chunk_text(chunk, pool)
        return self._deeper("section", document, walk, pool, text, [chunk])

    def _deeper(
        self, above: str, document: int, walk: int, pool: Items, text: str, chunks: Sequence[int]
    ) -> Asked | None:
        """One level down from a pair; from nowhere if that one was dropped."""
        before = pool.record(above, self.of(above, document)[walk])
        if before is None:
            return Asked(LOCAL.format(text=text), text, chunks)
        return Asked(
            DEEPER.format(text=text, question=before["question"], answer=before["answer"]), text, chunks
        )

    def _local(self, document: int, number: int, pool: Items) -> Asked | None:
        chunk = self._random("local", document, number).choice(self.summaries.chunks.of(document))
        text = self.summaries.chunk_text(chunk, pool)
        return Asked(LOCAL.format(text=text), text, [chunk])

    def _multi_hop(self, document: int, number: int, pool: Items) -> Asked | None:
        chunks = self.summaries.chunks.of(document)
        drawn = sorted(self._random("multi_hop", document, number).sample(chunks, min(HOPS, len(chunks))))
        found = [self.summaries.chunk_text(chunk, pool) for chunk in drawn]
        text = "\n\n".join(f"Part {n}: {part}" for n, part in enumerate(found, 1) if part)
        return Asked(MULTI_HOP.format(text=text), text, drawn)


def _without(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("question", "chunks") if name in record}
