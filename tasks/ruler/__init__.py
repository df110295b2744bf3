"""RULER: thirteen synthetic tasks at any length, asked and scored as NVIDIA's code does today."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness.contracts import Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .._grid import checked_lengths, part_means
from . import metrics, sentences, sources
from .counting import Counter
from .drafts import Maker
from .fitting import Fitter
from .lists import CommonWords, Documents, FrequentWords
from .needles import EXAMPLE_TOKENS, ChainMaker, NeedleMaker, essays
from .protocol import PRESET, SPECS, THRESHOLD, Needles, Spec


class RulerOptions(Options):
    """Options of `Ruler`: lengths, how many samples, and what splits the essays into sentences."""

    lengths: list[int] = Field(
        [4096], description="total lengths in the model's tokens, chat template and new tokens included"
    )
    samples: int = Field(500, ge=1, le=10**6, description="samples of each length")
    sentences: Literal["auto", "punkt", "rules"] = Field(
        "auto",
        description="what splits the essays: nltk's punkt, built-in rules, or punkt if it is installed",
    )

    _lengths = field_validator("lengths")(checked_lengths)


class Ruler(Task):
    """RULER (https://arxiv.org/abs/2404.06654): 13 synthetic tasks at any length, by NVIDIA's code of 2026.

    ``ruler`` alone stands for all thirteen. Templates, needles, depths, haystacks, worked examples, answer
    prefixes and scores are the official ones (see `protocol`); the answer prefix follows the assistant's
    header. Prompt as the model reads it plus new tokens never exceed the length.

    Keys, values and places are drawn here, from seed, task, length and number of the sample: sample i of a
    length is the same under any ``--limit``, but is not the official file's line i (those depend on
    every draw before them). Essays and questions come from ``--data-dir`` or, but for the essays, are
    fetched; ``niah_single_1``, ``niah_multikey_2``, ``niah_multikey_3``, ``vt``, ``cwe`` and ``fwe`` need none.
    """

    Options = RulerOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (
        "1: templates, generators and scores of NVIDIA/RULER @c3f5e3b4 (2026-07-22); with a chat template the "
        "example of cwe stands in the one user's turn",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = tuple(SPECS)
    group: ClassVar[tuple[str, ...]] = tuple(SPECS)
    answer_fields: ClassVar[tuple[str, ...]] = ("outputs", "answers")
    options: RulerOptions

    def __init__(self, options: RulerOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        if variant is None:
            raise UsageError("ruler is thirteen tasks; name one, as in ruler/vt")
        self.spec: Spec = SPECS[variant]
        self._data: dict[str, str] = {}
        self.splitter: sentences.Splitter = "rules"
        # Whatever else decides what is asked is part of the run's identity, so that no run mixes two of it.
        self.preset = f"{PRESET} wonderwords-{sources.wonderwords_version()}"
        if isinstance(self.spec, Needles) and self.spec.haystack == "essay":
            chosen = options.sentences
            self.splitter = sentences.installed() if chosen == "auto" else chosen
            self.preset += f" sentences-{self.splitter}" + "@2" * (self.splitter == "punkt")

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """SQuAD, HotpotQA and cwe's long word list into the cache; raises UsageError if they cannot be had."""
        return sources.fetch(offline)

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield sample 0 of each length, then sample 1 of each, and so on; made only as they are taken.

        A question task ends with its file, however many samples are asked for.

        Raises
        ------
        UsageError
            If a file is missing, or a length is too short for the task.
        """
        self._data = {name: sources.whole(name, env) for name in self._files(env)}
        fitters = self._fitters(env)
        given = 0
        for index in range(self.options.samples):
            for length, fitter in fitters.items():
                if given == env.limit or index == fitter.maker.available:
                    return
                given += 1
                draft = fitter.sample(index)
                yield Sample(
                    id=f"len{length}-{index}",
                    prompt=draft.prompt,
                    references=draft.references,
                    new_tokens=self.spec.new_tokens,
                    answer_prefix=draft.answer_prefix,
                    metadata={"length": length, "index": index, **draft.facts},
                )

    def facts(self) -> dict[str, Any]:
        """Fingerprints of the files the texts are made of, if any: other files are another run."""
        return {"data": self._data} if self._data else {}

    def _files(self, env: TaskEnvironment) -> list[str]:
        """The files of essays, questions or words this task reads, whichever samples are asked for."""
        if isinstance(self.spec, Needles):
            return [sources.ESSAYS] * (self.spec.haystack == "essay")
        if self.spec.kind == "qa":
            return [sources.SQUAD if self.variant == "qa_1" else sources.HOTPOTQA]
        own = env.data_dir is not None and (env.data_dir / sources.ENGLISH_WORDS).is_file()
        return [sources.ENGLISH_WORDS] * (self.spec.kind == "cwe" and own)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """The official string match: share of the answers found, for questions whether any is: 0..1."""
        return {"score": metrics.score(self.spec.metric, prediction, sample.references)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """Mean score of each length, where there are several."""
        return part_means(scored, "score", ("length",))

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """``Avg``, the mean over the thirteen tasks; left out if one is missing."""
        if not all(variant in means for variant in cls.group):
            return {}
        return {"Avg": sum(means[variant] for variant in cls.group) / len(cls.group)}

    @classmethod
    def verdict(cls, parts: Mapping[str, Mapping[str, float]]) -> str:
        """Effective length and weighted averages, from ``Avg`` of several lengths; else nothing.

        The effective length is the longest whose mean, and that of all shorter ones, reaches 85.6, what
        Llama-2-7B has at 4K. ``wAvg`` weighs lengths linearly, the longest (inc) or the shortest (dec) most.
        """
        means = {int(part.removeprefix("length ")): found["Avg"] for part, found in parts.items() if found}
        if len(means) < 2:
            return ""
        effective = None
        for length in sorted(means):
            if means[length] < THRESHOLD:
                break
            effective = length
        reached = f"{effective:,}" if effective else f"below {min(means):,}"
        inc, dec = (_weighted(means, longest_first) for longest_first in (False, True))
        return (
            f"effective length {reached} (mean of {100 * THRESHOLD:.1f} or more)  "
            f"wAvg inc {100 * inc:.2f}  wAvg dec {100 * dec:.2f}"
        )

    def _fitters(self, env: TaskEnvironment) -> dict[int, Fitter]:
        counter = Counter(env)
        new_tokens = self.spec.new_tokens
        return {
            length: Fitter(self.name, self._maker(env, length, counter), counter, length, new_tokens)
            for length in self.options.lengths
        }

    def _maker(self, env: TaskEnvironment, length: int, counter: Counter) -> Maker:
        spec, seed = self.spec, env.seed
        makers: dict[str, Callable[[], Maker]] = {
            "vt": lambda: ChainMaker(seed, length, _example_units(seed, counter)),
            "cwe": lambda: CommonWords(seed, length, partial(sources.english_words, env)),
            "fwe": lambda: FrequentWords(seed, length, spec.new_tokens),
            "qa": lambda: Documents(
                seed, (sources.squad if self.variant == "qa_1" else sources.hotpotqa)(env)
            ),
        }
        if isinstance(spec, Needles):
            text = essays(sources.essays(env), self.splitter) if spec.haystack == "essay" else None
            return NeedleMaker(spec, seed, length, text)
        return makers[spec.kind]()


def _weighted(means: Mapping[int, float], longest_first: bool) -> float:
    """Mean over lengths with weights 1, 2, 3 ... in the order given."""
    ordered = sorted(means, reverse=longest_first)
    weights = range(1, len(ordered) + 1)
    return sum(weight * means[length] for weight, length in zip(weights, ordered)) / sum(weights)


def _example_units(seed: int, counter: Counter) -> int:
    """Noise lines of vt's example: the most with which it takes `EXAMPLE_TOKENS`, and at least five."""
    units = ChainMaker.HOPS + 1
    while True:
        example = ChainMaker(seed, EXAMPLE_TOKENS, units + 1).example(random.Random(f"{seed}/vt-names"))
        if counter.words(example) > EXAMPLE_TOKENS:
            return units
        units += 1
