"""MRCR: repeat one of several alike answers of a long conversation; OpenAI's rows, DeepMind's v2, and our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .._grid import checked_lengths
from .._rows import file_fingerprint
from .own import own_rows
from .rows import FIRST, REPOSITORY, ROWS, V2_LENGTHS, Row, openai_files, openai_rows, v2_file, v2_rows
from .scores import V2_HASH, openai_score, v2_score

NEEDLES = (2, 4, 8)
OPENAI = tuple(f"{n}needle" for n in NEEDLES)
V2 = tuple(f"v2_{n}needle" for n in NEEDLES)
OWN = tuple(f"own_{n}needle" for n in NEEDLES)
SMALLEST = 4096
"""Tokens: the lower edge of the first published bin."""


class MrcrOptions(Options):
    """Options of `Mrcr`."""

    new_tokens: int = Field(
        2048, ge=1, description="most tokens of an answer; the official code sets no limit"
    )
    v2_length: str = Field(
        "upto_128K", description=f"which of DeepMind's files: {', '.join(V2_LENGTHS[:3])} ..."
    )
    longest: int | None = Field(
        None,
        ge=1,
        description="leave rows of longer bins out (8192, 16384 ...), as officially those that a model cannot read",
    )
    lengths: list[int] = Field(
        [2048, 4096, 8192],
        description="own_*: lengths of the prompts in the model's tokens, template included",
    )
    samples: int = Field(20, ge=1, description="own_*: questions of each length")

    @field_validator("lengths")
    @classmethod
    def _lengths(cls, lengths: list[int]) -> list[int]:
        return checked_lengths(lengths)

    @field_validator("v2_length")
    @classmethod
    def _v2_length(cls, length: str) -> str:
        if length not in V2_LENGTHS:
            raise ValueError(f"choose from {', '.join(V2_LENGTHS)}")
        return length


class Mrcr(Task):
    """MRCR: of several alike requests in a long conversation, repeat the answer to one, word for word.

    ``mrcr`` alone stands for OpenAI's rows with 2, 4 and 8 needles (https://huggingface.co/datasets/openai/mrcr):
    conversations, rendered by the model's chat template, whose last turn is the question. ``v2_*`` are DeepMind's
    (https://arxiv.org/abs/2409.12640), one text each. ``own_*`` are conversations made here, in the same manner and
    comparable with neither.
    """

    Options = MrcrOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (
        "1: grades of openai/mrcr's card and of google-deepmind/eval_hub @67b7fd29",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = (*OPENAI, *V2, *OWN)
    group: ClassVar[tuple[str, ...]] = OPENAI
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "answer")
    options: MrcrOptions

    def __init__(self, options: MrcrOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.kind = _variant(variant)
        self.needles = int(self.kind.removesuffix("needle")[-1])
        self.preset = (
            "mrcr-own@1" if self.kind in OWN else "mrcr-v2@1 67b7fd29" if self.kind in V2 else "mrcr-openai@1"
        )
        self._facts: dict[str, Any] = {}

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """OpenAI's files since 2025-12-05; raises UsageError if they cannot be had."""
        env = TaskEnvironment(None, 0, lambda *given: 0, offline=offline)
        paths = [path for needles in NEEDLES for path in openai_files(needles, env)[0]]
        return paths[0].parent.parent

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows in file order; of those made here, question 0 of each length, then question 1, and so on.

        Raises
        ------
        UsageError
            If the data cannot be had, or a row is broken (named by file and line).
        """
        taken = 0
        for row in self._rows(env):
            facts = {**row.facts, "prefix": row.prefix}
            if self.kind not in OWN:
                facts |= {"bin": _bin(self._tokens(row, env))}
                if self.options.longest is not None and facts["bin"] > self.options.longest:
                    continue
            yield Sample(row.id, row.prompt, (row.answer,), self.options.new_tokens, metadata=facts)
            taken += 1
            if taken == env.limit:
                return

    def _rows(self, env: TaskEnvironment) -> Iterator[Row]:
        if self.kind in OWN:
            yield from self._made(env)
            return
        if self.kind in V2:
            paths = [v2_file(self.needles, self.options.v2_length, env)]
            found = v2_rows(paths[0], self.needles)
        else:
            paths, self._facts["revision"] = openai_files(self.needles, env)
            found = openai_rows(paths, self.needles)
            if self._facts["revision"] == FIRST and env.notify:
                env.notify(
                    f"{self.name}: rows without dates are OpenAI's first version ({REPOSITORY} @{FIRST[:8]}): a tenth "
                    "have too many needles, a twentieth a wrong answer; they do not compare with those since 2025-12-05"
                )
        self._facts["data"] = "-".join(map(file_fingerprint, paths))
        n = 0
        for row in found:
            n += 1
            yield row
        if not n:
            raise UsageError(f"{self.name}: no rows in {paths[0].name}")
        if self.kind in OPENAI and n != ROWS and env.notify:
            env.notify(
                f"{self.name}: {n:,} rows, the published set has {ROWS}; its numbers are not comparable with "
                "published ones"
            )

    def _made(self, env: TaskEnvironment) -> Iterator[Row]:
        series = [
            own_rows(self.needles, length, env.seed, lambda prompt: env.count(prompt, True, ""))
            for length in self.options.lengths
        ]
        for _ in range(self.options.samples):
            for rows in series:
                yield next(rows)

    def _tokens(self, row: Row, env: TaskEnvironment) -> int:
        """Tokens of the words of a conversation and its answer, without headers, as the published bins count."""
        texts = [row.prompt.text, row.answer]
        return sum(len(env.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)

    def facts(self) -> dict[str, Any]:
        """Fingerprints of the files, and which version of OpenAI's they are: other rows are another run."""
        return dict(self._facts)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``score``: the ratio of difflib, 0..1, by the rules of OpenAI's card or of DeepMind's code."""
        [answer] = sample.references
        if self.kind in V2:
            return {"score": v2_score(prediction, answer)}
        return {"score": openai_score(prediction, answer, str(sample.metadata["prefix"]))}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean of each bin of lengths, or of each length of rows made here."""
        fact = "length" if self.kind in OWN else "bin"
        cells: dict[int, list[float]] = {}
        for sample in scored:
            cells.setdefault(int(sample.metadata[fact]), []).append(sample.scores["score"])
        if len(cells) < 2:
            return {}
        return {f"{fact} {at}": sum(cells[at]) / len(cells[at]) for at in sorted(cells)}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with: ``answers`` or ``answer``, and for OpenAI's rows ``random_string_to_prepend``.

        Raises
        ------
        UsageError
            If one of them is missing.
        """
        kind = _variant(variant)
        given = row.get("answers", row.get("answer"))
        answers = [given] if isinstance(given, str) else given
        if not isinstance(answers, list) or len(answers) != 1 or not isinstance(answers[0], str):
            raise UsageError("field 'answers' must be the one text asked for, hash included")
        prefix = row.get("random_string_to_prepend")
        if kind in V2:
            prefix = answers[0][:V2_HASH]
        elif not isinstance(prefix, str) or not prefix:
            raise UsageError("field 'random_string_to_prepend' must be the hash that the answer begins with")
        return Sample(
            str(row.get("id", "")), Prompt("", "", ""), tuple(answers), 1, metadata={"prefix": prefix}
        )


def _variant(variant: str | None) -> str:
    if variant is None:
        raise UsageError("mrcr is several sets; name one, as in mrcr/8needle")
    return variant


def _bin(tokens: int) -> int:
    """The upper edge of a published bin: 8192 for up to 8,192 tokens, then twice as many each."""
    edge = 2 * SMALLEST
    while tokens > edge:
        edge *= 2
    return edge
