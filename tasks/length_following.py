"""How well an answer keeps to the length that was asked for (Figure 3 of SelfLong, https://arxiv.org/abs/2412.18860)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.contracts.prompt import Prompt
from harness.contracts.task import Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

DATA = "data.jsonl"
TOKENS_PER_WORD = 2.0
"""Tokens an answer may have for each word asked for: room to be half as long again in any tokenizer."""


class LengthFollowingOptions(Options):
    """Options of `LengthFollowing`."""

    file: Path | None = Field(
        None,
        description="folder that `harness synth --recipe selflong` wrote, or its data.jsonl; must be given",
    )
    most_tokens: int = Field(8192, ge=16, description="most tokens of an answer, whatever was asked for")


class LengthFollowing(Task):
    """Writing tasks that name a length in words: how far the answer is from it.

    ``score`` is 1 less the error, and the error ``|written - asked| / asked``, at most 1. Words are what stands between
    blanks. The text itself is not judged. Use samples that nothing was trained on.
    """

    Options = LengthFollowingOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: first version",)
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    preset: str = "length_following@1"
    options: LengthFollowingOptions

    def __init__(self, options: LengthFollowingOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        if options.file is not None:  # the data decides, not its path
            try:
                content = _path(options.file).read_bytes()
            except OSError as error:
                raise UsageError(
                    f"length_following: {options.file} cannot be read: {error.strerror}"
                ) from None
            self.preset = f"length_following@1 {hashlib.sha256(content).hexdigest()[:16]}"

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the writing tasks of the file in their order.

        Raises
        ------
        UsageError
            If no file is given, it has no writing task, or a line is broken.
        """
        return islice(self._rows(), env.limit)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``score``: 0..1."""
        return {"score": 1 - error(asked_words(sample.metadata), prediction)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean for each length of two digits' precision, where there are a few."""
        rows: dict[int, list[float]] = {}
        for sample in scored:
            rows.setdefault(asked_words(sample.metadata), []).append(sample.scores["score"])
        return {f"{n} words": sum(v) / len(v) for n, v in sorted(rows.items())} if 1 < len(rows) <= 16 else {}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, from ``asked_words``, also inside ``facts``. Raises UsageError without them."""
        facts = row.get("facts")
        asked = row.get("asked_words", facts.get("asked_words") if isinstance(facts, dict) else None)
        if type(asked) is not int or asked < 1:
            raise UsageError("field 'asked_words' must be the number of words that were asked for")
        return Sample(str(row.get("id", "")), Prompt("", "", ""), (), 1, metadata={"asked_words": asked})

    def _rows(self) -> Iterator[Sample]:
        if self.options.file is None:
            raise UsageError(
                "length_following: name the data, --set length_following.file=FOLDER, as "
                "harness synth --recipe selflong wrote it"
            )
        path, found = _path(self.options.file), 0
        try:
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    if (sample := self._sample(line, f"{path}, line {number}")) is not None:
                        found += 1
                        yield sample
        except (OSError, UnicodeDecodeError) as broken:
            raise UsageError(f"length_following: {path} cannot be read: {broken}") from None
        if not found:
            raise UsageError(
                f"{path}: no writing task in it (they are the task long_output of recipe selflong)"
            )

    def _sample(self, line: str, where: str) -> Sample | None:
        try:
            row = json.loads(line)
            asked = (row.get("facts") or {}).get("asked_words")
            if asked is None:
                return None
            prompt, answer, name = str(row["prompt"]), str(row["answer"]), str(row["id"])
            facts = {"asked_words": int(asked)}
            if facts["asked_words"] < 1:
                raise ValueError("asked_words must be at least 1")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as broken:
            raise UsageError(f"{where}: no sample of harness synth ({broken})") from None
        most = min(self.options.most_tokens, int(asked * TOKENS_PER_WORD) + 64)
        return Sample(name, Prompt("", "", prompt), (answer,), most, metadata=facts)


def asked_words(facts: Mapping[str, Any]) -> int:
    """Words asked for, by the metadata of a sample."""
    return int(facts["asked_words"])


def error(asked: int, text: str) -> float:
    """``|written - asked| / asked``, at most 1."""
    return min(1.0, abs(len(text.split()) - asked) / asked)


def _path(path: Path) -> Path:
    return path / DATA if path.is_dir() else path
