"""BABILong: facts of bAbI hidden in long texts, and questions that need one, two, three or many of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import Unavailable, UsageError
from harness.options import Options

from .._grid import part_means
from .._rows import file_fingerprint
from ..ruler import sources
from . import published
from .facts import OWN, Story, made, read
from .hiding import from_books, hide, ids, own_text, splitter
from .prompts import COMMIT, NEW_TOKENS, TASKS, parts, right

LENGTHS = tuple(1000 * k for k in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 10_000))
"""The published lengths, in tokens; 0 is the facts alone."""
ROOM = 300
"""Tokens of a length that are left to instruction and question."""
HEADLINE = TASKS[:5]
PASSED = 1000
"""Stories too long for a length after which it is given up."""


class BabilongOptions(Options):
    """Options of `Babilong`: what is asked, at which lengths, and where the rows come from."""

    lengths: list[int] | None = Field(
        None,
        description="lengths in tokens, 0 for the facts alone; 300 of each are left to instruction and question; by "
        "default the published ones (0, 1000, 2000, 4000 ...) up to the model's window",
    )
    samples: int = Field(100, ge=1, description="questions of each length")
    source: Literal["auto", "published", "babi", "own"] = Field(
        "auto",
        description="published, the benchmark's own rows; babi, bAbI's files in --data-dir, hidden here; own, stories "
        "made here (qa1 to qa3); by default babi where its file is in --data-dir, else published",
    )
    instruction: bool = Field(True, description="say the instruction")
    examples: bool = Field(True, description="give the examples")
    post_prompt: bool = Field(True, description="say how to answer")

    @field_validator("lengths")
    @classmethod
    def _lengths(cls, lengths: list[int] | None) -> list[int] | None:
        if lengths is not None:
            if not lengths or len(set(lengths)) < len(lengths):
                raise ValueError("give at least one length, and each once")
            if any(length < 0 or 0 < length <= ROOM for length in lengths):
                raise ValueError(f"a length must be 0, or more than the {ROOM} tokens left to the question")
        return lengths


class Babilong(Task):
    """BABILong (https://arxiv.org/abs/2406.10149): facts hidden in long texts, questions that need some of them.

    ``babilong`` alone stands for qa1 to qa5, the headline; qa6 to qa20 are asked by name. Prompts and comparison of
    answers are those of the official code, oddities included (see `prompts.right`).

    Rows are the published ones, or are made as the official script makes them: from bAbI's files and any books in
    ``--data-dir`` (without books, sentences of random words), or from stories of our own. Sample i depends on seed,
    tokenizer, length and i alone.
    """

    Options = BabilongOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (
        f"1: official prompts and comparison (booydar/babilong @{COMMIT})",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = TASKS
    group: ClassVar[tuple[str, ...]] = HEADLINE
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "target")
    options: BabilongOptions

    def __init__(self, options: BabilongOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.task = _task(variant)
        use = (self.options.instruction, self.options.examples, self.options.post_prompt)
        self.use = use
        self.preset = f"babilong-{''.join('ny'[wanted] for wanted in use)}@1 {COMMIT}"
        self._facts: dict[str, Any] = {}

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The published rows of all tasks up to 32k; raises UsageError if they cannot be had."""
        return published.fetch(HEADLINE, [length for length in LENGTHS if length <= 32_000], offline)

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield question 0 of each length, question 1 of each, and so on.

        Raises
        ------
        UsageError
            If rows, stories or background cannot be had, a line is broken, or the background is too short.
        """
        lengths = self.options.lengths or [n for n in LENGTHS if n <= env.context_length]
        source, path = self._source(env)
        self._facts = {"source": source}
        series = self._series(source, path, lengths, env)
        taken = 0
        for number in range(self.options.samples):
            for length in lengths:
                if taken == env.limit:
                    return
                found = next(series[length], None)
                if found is None:
                    if number == 0:
                        raise UsageError(f"{self.name}: no question of length {length}")
                    continue
                yield self._sample(length, number, *found)
                taken += 1

    def facts(self) -> dict[str, Any]:
        """Where the rows come from, with fingerprints of the files and what made the background."""
        return self._facts

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """1 if the target and no other label of the task stands in the answer's first sentence, else 0."""
        question = str(sample.metadata.get("question", ""))
        return {"score": float(any(right(self.task, t, prediction, question) for t in sample.references))}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean of each length, where there are several."""
        return part_means(scored, "score", ("length",))

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """``Avg``, the mean over qa1 to qa5; left out if one is missing."""
        if not all(task in means for task in HEADLINE):
            return {}
        return {"Avg": sum(means[task] for task in HEADLINE) / len(HEADLINE)}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, from ``target`` or ``answers``, and ``question``.

        Raises
        ------
        UsageError
            If one is missing, or `variant` is None.
        """
        _task(variant)
        given = row.get("target", row.get("answers"))
        found = [given] if isinstance(given, str) else given
        if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
            raise UsageError("field 'target' must be a string")
        if not isinstance(row.get("question"), str):
            raise UsageError("field 'question' must be a string: labels that stand in it do not count")
        metadata = {"question": row["question"]}
        return Sample(str(row.get("id", "")), Prompt("", "", ""), tuple(found), NEW_TOKENS, metadata=metadata)

    def _sample(self, length: int, number: int, text: str, story: Story, facts: Mapping[str, Any]) -> Sample:
        return Sample(
            f"{length}-{number}",
            parts(self.task).render(text, story.question, self.use),
            (story.answer,),
            NEW_TOKENS,
            metadata={"length": length, "question": story.question, **facts},
        )

    def _source(self, env: TaskEnvironment) -> tuple[str, Path | None]:
        """Where the rows come from, and bAbI's file."""
        asked = self.options.source
        if asked == "own":
            if self.task not in OWN:
                raise UsageError(f"{self.name}: source=own makes {', '.join(OWN)} only")
            return "own", None
        pattern = f"{self.task}_*train.txt"
        found = sorted(env.data_dir.rglob(pattern)) if env.data_dir else []
        if asked == "babi" and not found:
            raise Unavailable(f"{self.name}: source=babi needs bAbI's {pattern} in --data-dir")
        return ("babi", found[0]) if found and asked != "published" else ("published", None)

    def _series(
        self, source: str, path: Path | None, lengths: Sequence[int], env: TaskEnvironment
    ) -> dict[int, Iterator[tuple[str, Story, dict[str, Any]]]]:
        """For each length its texts, stories and facts, one by one."""
        if source == "published":
            note: Callable[[int, str], None] = self._note
            return {n: published.rows(self.name, self.task, n, env, note) for n in lengths}
        if path is not None:
            self._facts["babi"] = file_fingerprint(path)
        books = self._books(env)
        return {n: self._hidden(n, path, books, env) for n in lengths}

    def _note(self, length: int, fingerprint: str) -> None:
        self._facts[f"data {length}"] = fingerprint

    def _books(self, env: TaskEnvironment) -> list[str]:
        """The texts of ``books/*.txt`` in ``--data-dir``, noted in the facts."""
        paths = sorted((env.data_dir / "books").glob("*.txt")) if env.data_dir else []
        self._facts["background"] = [
            file_fingerprint(path) for path in paths
        ] or sources.wonderwords_version()
        if paths:
            self._facts["sentences"] = splitter()
        try:
            books = [path.read_text(encoding="utf-8") for path in paths]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.name}: a book is not UTF-8 text or cannot be read ({error})") from None
        return [book for book in books if book.strip()]

    def _hidden(
        self, length: int, path: Path | None, books: Sequence[str], env: TaskEnvironment
    ) -> Iterator[tuple[str, Story, dict[str, Any]]]:
        size = length - ROOM
        for number, story in enumerate(self._fitting(length, self._stories(length, path, env.seed), env)):
            rng = random.Random(f"{env.seed}/{self.name}/{length}/{number}")
            found = from_books(books, size, rng) if books else own_text(rng)
            # A book without sentences would be looked through for ever.
            found = islice(found, 50 + size) if size > 0 else iter(())
            try:
                hidden = hide(story.facts, found, size, env.tokenizer, rng.randrange(2**32))
            except UsageError as error:
                raise UsageError(f"{self.name}: length {length}: {error}") from None
            yield hidden.text, story, {"facts": len(story.facts), "before_sentence": list(hidden.positions)}

    def _stories(self, length: int, path: Path | None, seed: int) -> Iterator[Story]:
        """Stories that leave room for background: at 0 all, else those of few enough lines."""
        most = (length - ROOM) // 8
        # The official script never takes a file's last question.
        stories = made(self.task, f"{seed}/{self.name}") if path is None else iter(read(path)[:-1])
        return (story for story in stories if length == 0 or len(story.facts) + 1 <= most)

    def _fitting(self, length: int, stories: Iterator[Story], env: TaskEnvironment) -> Iterator[Story]:
        """The stories whose facts alone are no longer than the text is to be; at 0 all of them."""
        passed = 0
        for story in stories:
            if length and sum(len(ids(env.tokenizer, f" {fact}")) for fact in story.facts) > length - ROOM:
                passed += 1
                if passed == PASSED:
                    raise UsageError(
                        f"{self.name}: length {length} is too short for the facts of {PASSED} stories"
                    )
                continue
            yield story


def _task(variant: str | None) -> str:
    if variant is None:
        raise UsageError("babilong is many tasks; name one, as in babilong/qa1")
    return variant
