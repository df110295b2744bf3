"""GraphWalks: breadth-first searches and parents in a long list of edges; OpenAI's rows, and our own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .. import _files
from .._files import once, text_of
from .._grid import checked_lengths
from .._rows import from_hub
from .._tables import found, table_rows
from .own import own_walks
from .scores import intended_f1, literal_f1, lm_eval_f1

REPOSITORY = "openai/graphwalks"
REVISION = "be6cc6ecf9b4d495b07d1ff53d2a16598e90fed7"
FILES = {
    "upto_128k": "graphwalks_128k_and_shorter",
    "256k_to_1m": "graphwalks_256k_to_1mil",
}
ROWS = {"upto_128k": 750, "256k_to_1m": 400}
"""Rows of the published files, 1,150 together."""
KINDS = ("bfs", "parents")


class GraphwalksOptions(Options):
    """Options of `Graphwalks`."""

    new_tokens: int = Field(
        2048, ge=1, description="most tokens of an answer; the card sets no limit, lm-eval 16384"
    )
    longest: int | None = Field(None, ge=1, description="leave rows out whose prompt has more characters")
    lengths: list[int] = Field(
        [2048, 4096, 8192], description="own: lengths of the prompts in the model's tokens, template included"
    )
    samples: int = Field(20, ge=1, description="own: questions of each length")

    @field_validator("lengths")
    @classmethod
    def _lengths(cls, lengths: list[int]) -> list[int]:
        return checked_lengths(lengths)


class Graphwalks(Task):
    """GraphWalks (https://huggingface.co/datasets/openai/graphwalks): which nodes a walk in a long graph reaches.

    ``graphwalks`` alone stands for the published rows up to 128K tokens; ``256k_to_1m`` are the longer ones, ``own``
    graphs made here in the same manner, comparable with neither. The score is the card's rule as it is meant; what
    its code gives as printed, and lm-eval's two numbers, stand beside it.
    """

    Options = GraphwalksOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (
        "1: the grade of openai/graphwalks' card as meant, and as printed",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score", "card_literal", "lm_eval_strict", "lm_eval_flexible")
    variants: ClassVar[tuple[str, ...]] = (*FILES, "own")
    group: ClassVar[tuple[str, ...]] = ("upto_128k",)
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "answer_nodes", "answer")
    options: GraphwalksOptions

    def __init__(self, options: GraphwalksOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.kind = _variant(variant)
        self.preset = "graphwalks-own@1" if self.kind == "own" else f"graphwalks@1 {REVISION[:8]}"
        self._facts: dict[str, Any] = {}

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The published file up to 128K; raises UsageError if it cannot be had."""
        return _hub("upto_128k", offline)

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows in file order; of those made here, question 0 of each length, then question 1, and so on.

        Raises
        ------
        UsageError
            If the data cannot be had, or a row is broken (named by file and line).
        """
        made = self._made(env) if self.kind == "own" else self._published(env)
        for taken, sample in enumerate(made, start=1):
            yield sample
            if taken == env.limit:
                return

    def _made(self, env: TaskEnvironment) -> Iterator[Sample]:
        def count(prompt: Prompt) -> int:
            return env.count(prompt, True, "")

        series = [own_walks(length, env.seed, count) for length in self.options.lengths]
        for _ in range(self.options.samples):
            for walks in series:
                name, prompt, nodes, facts = next(walks)
                yield Sample(name, prompt, nodes, self.options.new_tokens, metadata=dict(facts))

    def _published(self, env: TaskEnvironment) -> Iterator[Sample]:
        stem = FILES[self.kind]
        if env.data_dir is None:
            path = _hub(self.kind, env.offline)
        else:
            [path] = found(self.name, env.data_dir, [[f"{stem}.parquet"], [f"{stem}.jsonl"]])
        seen: dict[str, str] = {}
        number = 0
        for row, place in table_rows(path, self._take_data):
            number += 1
            if self.options.longest is None or len(text_of(row, "prompt", place)) <= self.options.longest:
                yield self._sample(row, place, seen)
        _files.count_told(_files.Source(self.name, (), rows=ROWS[self.kind]), path, number, env)
        if not seen:
            raise UsageError(f"{path}: no rows in it" + (" so short" if self.options.longest else ""))

    def _sample(self, row: Mapping[str, Any], place: str, seen: dict[str, str]) -> Sample:
        text = text_of(row, "prompt", place)
        nodes = row.get("answer_nodes", row.get("answer"))
        if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
            raise UsageError(f"{place}: field 'answer_nodes' must be a list of nodes")
        if row.get("problem_type") not in KINDS:
            raise UsageError(f"{place}: field 'problem_type' must be one of {', '.join(KINDS)}")
        given = row.get("id")
        if given is None:
            given = hashlib.sha256(json.dumps([text, nodes]).encode()).hexdigest()[:16]
        facts = {"problem_type": row["problem_type"], "prompt_chars": len(text)}
        border = text.rfind("\nOperation:") + 1
        if border < 1:
            raise UsageError(f"{place}: 'prompt' has no line 'Operation:', after which the question stands")
        asked = text[border:].partition("Operation:")[2].strip()
        prompt = Prompt("", text[:border], text[border:], asked)
        return Sample(
            once(str(given), place, seen), prompt, tuple(nodes), self.options.new_tokens, metadata=facts
        )

    def _take_data(self, fingerprint: str) -> None:
        self._facts["data"] = fingerprint

    def facts(self) -> dict[str, Any]:
        """A fingerprint of the file: other rows are another run."""
        return dict(self._facts)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``score``: F1 by the card's rule as meant; ``card_literal``, ``lm_eval_strict`` and ``lm_eval_flexible``."""
        nodes = sample.references
        return {
            "score": intended_f1(prediction, nodes),
            "card_literal": literal_f1(prediction, nodes),
            "lm_eval_strict": lm_eval_f1(prediction, nodes),
            "lm_eval_flexible": lm_eval_f1(prediction, nodes, anywhere=True),
        }

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean of each kind of question, and of each length of those made here."""
        rows: dict[str, list[float]] = {}
        for fact in ("problem_type", "length"):
            values = sorted({sample.metadata[fact] for sample in scored if fact in sample.metadata})
            for value in values if len(values) > 1 else ():
                name = str(value) if fact == "problem_type" else f"length {value}"
                rows[name] = [s.scores["score"] for s in scored if s.metadata.get(fact) == value]
        return {name: sum(values) / len(values) for name, values in rows.items()}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with: ``answers`` are the nodes, maybe none. Raises UsageError if they are missing."""
        _variant(variant)
        nodes = next((row[name] for name in cls.answer_fields if name in row), None)
        if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
            raise UsageError("field 'answers' must be a list of nodes")
        return Sample(str(row.get("id", "")), Prompt("", "", ""), tuple(nodes), 1)


def _variant(variant: str | None) -> str:
    if variant is None:
        raise UsageError("graphwalks is several sets; name one, as in graphwalks/upto_128k")
    return variant


def _hub(kind: str, offline: bool) -> Path:
    name = f"{FILES[kind]}.parquet"
    otherwise = f"give --data-dir a folder with {name} or {FILES[kind]}.jsonl"
    return from_hub("graphwalks", REPOSITORY, name, offline, otherwise, REVISION)
