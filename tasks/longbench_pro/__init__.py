"""LongBench Pro: 1,500 tasks in English and Chinese over texts of 8K to 256K tokens, eleven kinds of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from harness.contracts import Prompt, Sample, ScoredSample, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .. import _files
from .._file_task import FileTask
from .._grid import means_by
from ..longbench.metrics import require_jieba
from .metrics import MEASURES, measured

COMMIT = "88fbeb8"
SOURCE = _files.Source(
    "longbench_pro",
    ("longbench_pro.json", "longbench_pro.jsonl"),
    "caskcsg/LongBench-Pro",
    "longbench_pro.json",
    "4996884deae51f5e5d23c88da9d857fc54e5fa15",
    1500,
)
GAP = "\n\n\n\n"
NEW_TOKENS = {"nonthinking": 1024, "thinking": 8192}
FACTS = {
    "primary_task": (),
    "secondary_task": tuple(MEASURES),
    "language": ("English", "Chinese"),
    "token_length": ("8k", "16k", "32k", "64k", "128k", "256k"),
    "contextual_requirement": ("Full", "Partial"),
    "difficulty": ("Easy", "Moderate", "Hard", "Extreme"),
}
"""What a row says of itself, and the published values; of `primary_task` any text."""


class LongBenchProOptions(Options):
    """Options of `LongBenchPro`."""

    prompt: Literal["nonthinking", "thinking"] = Field(
        "nonthinking", description="which of a row's two questions is asked; thinking asks for steps first"
    )
    new_tokens: int | None = Field(
        None,
        ge=1,
        description="most tokens of an answer; by default 1,024, or 8,192 for prompt=thinking (officially 32,768 for "
        "models that read 256K tokens)",
    )
    summaries: bool = Field(
        False,
        description="ask the summaries (T4) too: scored by ROUGE-L alone, for the other half of their official score "
        "needs an embedding model, and left out of the score",
    )


class LongBenchPro(FileTask):
    """LongBench Pro (https://arxiv.org/abs/2601.02872): 25 kinds of questions over long texts, in two languages.

    Prompts, truncation and measures are those of the official code. Summaries (T4) are left out unless asked for: half
    of their official score is a similarity by an embedding model of 8 billion parameters. Decoding is greedy and each
    question is asked once, where the official run samples three times.

    Rows come from ``--data-dir`` (``longbench_pro.json``) or from the hub.
    """

    Options = LongBenchProOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (
        f"1: official prompts, truncation and measures (caskcsg/longcontext @{COMMIT}) but for summaries",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "answer")
    truncation: ClassVar[str] = "middle-exact"
    options: LongBenchProOptions

    def __init__(self, options: LongBenchProOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.preset = f"longbench-pro-{options.prompt}@1 {COMMIT}"

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The official file, downloaded unless it is here; raises UsageError if it cannot be had."""
        return _files.fetched(SOURCE, offline)

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows in file order, without summaries unless they are asked for; ids are the rows' own.

        Raises
        ------
        UsageError
            If the data cannot be had, or a row is broken (named by file and line).
        """
        seen: dict[str, str] = {}
        taken = left_out = 0
        for row, place in _files.rows(SOURCE, replace(env, limit=None), self._take_data):
            sample = self._sample(row, _files.once(_files.text_of(row, "id", place), place, seen), place)
            if _summary(sample.metadata) and not self.options.summaries:
                left_out += 1
                continue
            if taken == env.limit:
                break
            taken += 1
            yield sample
        if left_out and env.notify:
            env.notify(
                f"{self.name}: {left_out:,} summaries (T4) are left out: their score needs an embedding model; "
                "--set longbench_pro.summaries=true asks them and shows ROUGE-L"
            )

    def _sample(self, row: Mapping[str, Any], row_id: str, place: str) -> Sample:
        facts = {}
        for name, values in FACTS.items():
            facts[name] = _files.text_of(row, name, place)
            if values and facts[name] not in values:
                raise UsageError(
                    f"{place}: field {name!r} is {facts[name]!r}, and not one of {', '.join(values)}"
                )
        question = _files.text_of(row, f"question_{self.options.prompt}", place).strip()
        context = _files.text_of(row, "context", place).lstrip()
        answers = _files.answers_of(row, "answer", place)
        if not question or not context:
            raise UsageError(f"{place}: question and context must not be empty")
        prompt = Prompt("", context, f"{GAP}{question}", question)
        most = self.options.new_tokens or NEW_TOKENS[self.options.prompt]
        return Sample(row_id, prompt, answers, most, metadata=facts)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """The official measure of the row's kind of question, 0..1; of a summary ROUGE-L alone."""
        kind, chinese = sample.metadata["secondary_task"], sample.metadata["language"] == "Chinese"
        return {"score": measured(MEASURES[kind], prediction.strip(), sample.references, chinese)}

    def aggregate(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean over all questions but summaries; None where there is nothing else."""
        counted = [each for each in scored if not _summary(each.metadata)]
        return super().aggregate(counted) if counted else cast("dict[str, float]", {"score": None})

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The means that the official summary has, ``pass@1`` (score 1), and of summaries their ROUGE-L."""
        counted = [each for each in scored if not _summary(each.metadata)]
        found: dict[str, float] = {}
        for fact in ("token_length", "contextual_requirement", "difficulty", "primary_task", "language"):
            order = FACTS[fact] or sorted({each.metadata[fact] for each in counted}, key=_number)
            found |= means_by(counted, fact, order)
        if counted:
            found["pass@1"] = sum(each.scores["score"] == 1 for each in counted) / len(counted)
        if summaries := [each.scores["score"] for each in scored if _summary(each.metadata)]:
            found["T4, ROUGE-L alone"] = sum(summaries) / len(summaries)
        return found

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with: ``answers`` or ``answer``, and ``secondary_task``; ``language`` for summaries.

        Raises
        ------
        UsageError
            If one of them is missing.
        """
        answers = _files.answers_of(row, "answers" if "answers" in row else "answer", "the line")
        kind = row.get("secondary_task")
        if not isinstance(kind, str) or kind not in MEASURES:
            raise UsageError(f"field 'secondary_task' must be one of {', '.join(MEASURES)}")
        facts = {"secondary_task": kind, "language": row.get("language", "English")}
        if facts["language"] == "Chinese" and MEASURES[kind] == "rouge":
            require_jieba()
        return Sample(str(row.get("id", "")), Prompt("", "", ""), answers, 1, metadata=facts)


def _summary(facts: Mapping[str, Any]) -> bool:
    return MEASURES[facts["secondary_task"]] == "rouge"


def _number(primary: str) -> int:
    """The number of a kind of task: 11 of ``T11. Dialogue Memory``; 0 of a name without one."""
    digits = primary.partition(".")[0].removeprefix("T")
    return int(digits) if digits.isdigit() else 0
