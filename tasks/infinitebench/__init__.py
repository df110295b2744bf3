"""InfiniteBench: twelve tasks over texts of 100K tokens and more, asked and scored as officially."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness.contracts import Prompt, Sample, ScoredSample, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .._file_task import FileTask
from .._grid import checked_lengths, part_means
from ..ruler.counting import Counter
from ..ruler.fitting import Fitter
from . import data, metrics
from .generators import GENERATED
from .prompts import COMMIT, NEW_TOKENS, PRESETS, TASKS


class InfiniteBenchOptions(Options):
    """Options of `InfiniteBench`: whose prompts, and the size of what is made here."""

    preset: Literal["yarn-mistral", "gpt4", "claude2"] = Field(
        "yarn-mistral",
        description="whose official prompts: yarn-mistral's, bare text for any model; or those of a chat model, "
        "with the model's chat template",
    )
    lengths: list[int] | None = Field(
        None,
        description="passkey, number_string, kv_retrieval: total lengths in the model's tokens, template and "
        "new tokens included; by default the official 5,220 noise lines or 2,500 pairs",
    )
    samples: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="passkey, number_string, kv_retrieval: samples of each length; by default the official "
        "590, 590 and 500",
    )

    _lengths = field_validator("lengths")(checked_lengths)


class InfiniteBench(FileTask):
    """InfiniteBench (https://arxiv.org/abs/2402.13718): 12 tasks over texts of 100K tokens and more.

    ``infinitebench`` alone stands for all twelve. Prompts, answer limits and scores are those of the official
    code, oddities included (see `prompts` and `metrics`); joined, a prompt's parts are the official text.

    ``passkey``, ``number_string`` and ``kv_retrieval`` are made here, at the official size or at any lengths,
    unless ``--data-dir`` has the official file and neither ``lengths`` nor ``samples`` is given; sample i
    depends on seed, tokenizer, length and i alone. The other nine are read, line by line, from ``--data-dir``
    (``<task>.jsonl``) or from the hub.
    """

    Options = InfiniteBenchOptions
    version: ClassVar[str] = "2"
    changelog: ClassVar[tuple[str, ...]] = (
        "1: prompts, limits and scores of OpenBMB/InfiniteBench (prompt.py @753b69f, compute_scores.py @88b3daa)",
        "2: both ends that a cut keeps are decoded together, as officially: no blank or character is lost at the seam",
    )
    truncation: ClassVar[str] = "middle-exact"
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = TASKS
    group: ClassVar[tuple[str, ...]] = TASKS
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "answer", "ground_truth", "label")
    options: InfiniteBenchOptions

    def __init__(self, options: InfiniteBenchOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.task = _task(variant)
        self.protocol = PRESETS[options.preset]
        self.preset = f"infinitebench-{options.preset}@1 {COMMIT}"

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The files of the nine tasks that are not made here; raises UsageError if one cannot be had."""
        return data.fetch(offline)

    def max_context(self) -> int | None:
        """Where the official script cuts the middle out; None for a length that was asked for."""
        return None if self.options.lengths else self.protocol.max_context

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows in file order, or sample 0 of each length, sample 1 of each, and so on, as taken.

        Raises
        ------
        UsageError
            If the data cannot be had, a line is broken, or a length is too short for its task.
        """
        if self.task in GENERATED and not self._has_file(env):
            yield from self._made(env)
            return
        for row in data.rows(self.task, env, self._take_data):
            try:
                prompt = self.protocol.render(self.task, row.context, row.question, row.options)
            except UsageError as error:
                raise UsageError(f"{row.place}: {error}") from None
            yield self._sample(row.id, prompt, row.labels)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """The task's official score, 0..1; of a dialogue also whether any accepted name was said (``any_name``)."""
        letter = str(sample.metadata.get("letter", ""))
        skip = self.options.preset == "gpt4"
        official = metrics.score(self.task, prediction, sample.references, letter, skip)
        if self.task != "longdialogue_qa_eng":
            return {"score": official}
        return {"score": official, "any_name": metrics.any_name(prediction, sample.references)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """For what was made here, the mean of each length and of each tenth of the depths; else nothing."""
        if not all("depth" in sample.metadata for sample in scored):
            return {}
        tenths = [replace(s, metadata={"depth": min(90, s.metadata["depth"] // 10 * 10)}) for s in scored]
        lengths = part_means(scored, "score", ("length",)) if self.options.lengths else {}
        return lengths | part_means(tenths, "score", ("depth",))

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """``Avg``, the mean over the twelve tasks; left out if one is missing."""
        if not all(task in means for task in TASKS):
            return {}
        return {"Avg": sum(means[task] for task in TASKS) / len(TASKS)}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, from one of `answer_fields` as official rows and results have it.

        Raises
        ------
        UsageError
            If it is missing or of another form, or `variant` is None.
        """
        task = _task(variant)
        given = next((name for name in cls.answer_fields if name in row), cls.answer_fields[0])
        found = data.labels(task, row.get(given), given, row.get("options") or ())
        return _sample(task, str(row.get("id", "")), Prompt("", "", ""), found)

    def _sample(self, sample_id: str, prompt: Prompt, found: data.Labels) -> Sample:
        return replace(_sample(self.task, sample_id, prompt, found), chat=self.protocol.chat)

    def _has_file(self, env: TaskEnvironment) -> bool:
        asked = self.options.lengths is not None or self.options.samples is not None
        return not asked and env.data_dir is not None and (env.data_dir / f"{self.task}.jsonl").is_file()

    def _made(self, env: TaskEnvironment) -> Iterator[Sample]:
        spec = GENERATED[self.task]
        maker = spec.maker(partial(self.protocol.render, self.task))
        chat = self.protocol.chat
        counter = Counter(replace(env, count=lambda prompt, _, prefix: env.count(prompt, chat, prefix)))
        new_tokens = NEW_TOKENS[self.task]
        fitters = {
            length: Fitter(self.name, maker, counter, length, new_tokens)
            for length in self.options.lengths or ()
        }
        indices = range(self.options.samples or spec.samples)
        for number, (index, length) in enumerate(product(indices, fitters or (None,))):
            if number == env.limit:
                return
            if length is None:
                size, facts = "official", {}
                rng = random.Random(f"{env.seed}/{self.name}/{size}/{index}")
                draft = maker.draw(spec.units, rng, index)
            else:
                size, facts = f"len{length}", {"length": length}
                draft = fitters[length].sample(index)
            sample = self._sample(f"{size}-{index}", draft.prompt, data.Labels(draft.references))
            yield replace(sample, metadata={**facts, "index": index, **draft.facts})


def _task(variant: str | None) -> str:
    if variant is None:
        raise UsageError("infinitebench is twelve tasks; name one, as in infinitebench/passkey")
    return variant


def _sample(task: str, sample_id: str, prompt: Prompt, found: data.Labels) -> Sample:
    metadata = {"letter": found.letter} if found.letter else {}
    return Sample(sample_id, prompt, found.texts, NEW_TOKENS[task], metadata=metadata)
