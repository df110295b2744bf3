"""LongBench v2: 503 questions of four choices about texts of 8 thousand to 2 million words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.contracts import Prompt, Sample, ScoredSample, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .._file_task import FileTask
from .._files import Source, fetched, once, rows, text_of
from .._grid import means_by
from .prompts import COMMIT, NEW_TOKENS, SECOND_NEW_TOKENS, chunks, places, render, second

SOURCE = Source(
    "longbench_v2",
    ("data.json", "longbench_v2.jsonl"),
    "zai-org/LongBench-v2",
    "data.json",
    "2b48e494f2c7a2f0af81aae178e05c7e1dde0fe9",
    503,
)
CHANCE = 0.25
LETTERS = ("A", "B", "C", "D")
LABELS = {"difficulty": ("easy", "hard"), "length": ("short", "medium", "long")}
TEXTS = ("domain", "sub_domain", "question", "choice_A", "choice_B", "choice_C", "choice_D")


class LongBenchV2Options(Options):
    """Options of `LongBenchV2`: which of the official ways of asking."""

    mode: Literal["zero-shot", "cot", "no-context", "rag"] = Field(
        "zero-shot",
        description="zero-shot; cot, which thinks in a first call and answers in a second; no-context, the question "
        "alone; rag, the chunks of the rows' retrieved_context",
    )
    chunks: int = Field(5, ge=1, description="rag: chunks of a row's retrieved_context that are given")


class LongBenchV2(FileTask):
    """LongBench v2 (https://arxiv.org/abs/2412.15204): 503 questions of four choices about long texts.

    Prompts, truncation, answer parsing and scores are those of the official code, oddities included; joined, a
    prompt's parts are the official text. Decoding is greedy, where the official run samples at temperature 0.1.

    Rows come from ``--data-dir`` (``data.json``, or JSON lines in ``longbench_v2.jsonl``) or from the hub.
    """

    Options = LongBenchV2Options
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (f"1: official prompts and scores (THUDM/LongBench @{COMMIT})",)
    metrics: ClassVar[tuple[str, ...]] = ("score", "compensated")
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "answer")
    truncation: ClassVar[str] = "middle-exact"
    options: LongBenchV2Options

    def __init__(self, options: LongBenchV2Options, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.preset = f"longbench-v2-{self.options.mode}@1 {COMMIT}"
        self._asked: dict[str, dict[str, str]] = {}

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The official file, downloaded unless it is here; raises UsageError if it cannot be had."""
        return fetched(SOURCE, offline)

    def max_context(self) -> int | None:
        """120,000 tokens, where the official script cuts the middle out for every open model."""
        return 120_000

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows in file order; ids are the rows' own.

        Raises
        ------
        UsageError
            If the data cannot be had, or a row is broken (named by file and line).
        """
        seen: dict[str, str] = {}
        for row, place in rows(SOURCE, env, self._take_data):
            yield self._sample(row, once(text_of(row, "_id", place), place, seen), place)

    def _sample(self, row: Mapping[str, Any], row_id: str, place: str) -> Sample:
        mode = self.options.mode
        for field in TEXTS:
            text_of(row, field, place)
        for field, labels in LABELS.items():
            if row.get(field) not in labels:
                raise UsageError(f"{place}: field {field!r} must be one of {', '.join(labels)}")
        context = text_of(row, "context", place)
        if mode == "rag":
            context = _retrieved(row, self.options.chunks, place)
        answer = row.get("answer")
        if answer not in LETTERS:
            raise UsageError(
                f"{place}: answer {answer!r} is no choice; it must be one of {', '.join(LETTERS)}"
            )
        metadata = {name: row[name] for name in ("domain", "sub_domain", "difficulty", "length")}
        # The label of the length is no length in tokens, which the reports would take it for.
        metadata["length_label"] = metadata.pop("length")
        if mode == "cot":
            self._asked[row_id] = places(row)
        return Sample(row_id, render(mode, row, context), (answer,), NEW_TOKENS[mode], metadata=metadata)

    def follow_up(self, sample: Sample, answer: str) -> Sample | None:
        """The second call of ``cot``, unless the first came to nothing (the official code then drops the row)."""
        if self.options.mode != "cot" or not answer:
            return None
        prompt = second(self._asked[sample.id], answer)
        return replace(sample, prompt=prompt, new_tokens=SECOND_NEW_TOKENS)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``score``: whether the letter said is the answer's. ``compensated``: 0.25 where no letter was found.

        ``answered`` is 0 for an empty answer, which the official runner does not write down at all.
        """
        found = letter(prediction)
        right = float(found in sample.references)
        return {
            "score": right,
            "compensated": CHANCE if found is None else right,
            "answered": float(prediction != ""),
        }

    def aggregate(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The means over all rows, and ``official``: the score over the rows with an answer of any kind."""
        found = super().aggregate(scored)
        if answered := sum(sample.scores["answered"] for sample in scored):
            found["official"] = sum(sample.scores["score"] for sample in scored) / answered
        return found

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The score by difficulty, by the row's label of length and by domain; and chance."""
        found: dict[str, float] = {}
        for fact, names in (("difficulty", LABELS["difficulty"]), ("length_label", LABELS["length"])):
            found |= means_by(scored, fact, names)
        found |= means_by(scored, "domain", sorted({sample.metadata["domain"] for sample in scored}))
        whole = self.aggregate(scored)
        found |= {name: whole[name] for name in ("compensated", "official") if name in whole}
        return {**found, "chance": CHANCE}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with: ``answer`` or ``answers`` is the right letter. Raises UsageError if it is none."""
        given = row.get("answers", row.get("answer"))
        found = [given] if isinstance(given, str) else given
        if not isinstance(found, list) or not found or not all(each in LETTERS for each in found):
            raise UsageError(f"field 'answers' must be one of {', '.join(LETTERS)}")
        return Sample(str(row.get("_id", row.get("id", ""))), Prompt("", "", ""), tuple(found), 128)


def letter(response: str) -> str | None:
    """The choice a response names, by the official rule; None if it names none.

    Asterisks do not count. The form with brackets is looked for in the whole text before the one without, which ends
    at no word: "The correct answer is Apple" is A.
    """
    response = response.replace("*", "")
    for pattern in (r"The correct answer is \(([A-D])\)", r"The correct answer is ([A-D])"):
        if match := re.search(pattern, response):
            return match[1]
    return None


def _retrieved(row: Mapping[str, Any], number: int, place: str) -> str:
    found = row.get("retrieved_context")
    good = isinstance(found, list) and all(
        isinstance(c, dict) and isinstance(c.get("content"), str) and isinstance(c.get("c_idx"), int)
        for c in found
    )
    if not good:
        raise UsageError(
            f"{place}: mode rag needs 'retrieved_context', a list of objects with content (text) and c_idx (number); "
            "the published rows have none: add your own"
        )
    return chunks(row["retrieved_context"], number)
