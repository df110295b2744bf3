"""LongBench: real documents, twenty-one data sets, asked and scored exactly as published numbers were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts import Prompt, Sample, ScoredSample, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .._file_task import FileTask
from . import data
from . import metrics as official
from .prompts import CATEGORIES, LONGBENCH_E, OTHER_SETS, PAPER_SETS, PRESET, PROTOCOLS, base

BUCKETS = ((4000, "0-4k"), (8000, "4-8k"))
"""LongBench-E's length buckets: stored lengths below the number; the rest is ``8k+``."""


class LongBench(FileTask):
    """LongBench v1 (https://arxiv.org/abs/2308.14508) by its official protocol.

    ``longbench`` alone stands for the fourteen English and code sets of the Activation Beacon paper; the
    synthetic, the Chinese and the thirteen LongBench-E sets (``trec_e``) are asked for by name. Prompts,
    answer lengths, the sets without chat template and the metrics are those of the official code, oddities
    included (see `metrics`); the prompt is split around its context, and joined is the official text.

    Rows come from ``--data-dir`` (one ``<dataset>.jsonl`` a set) or from the archive on the hub.
    """

    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: official prompts and metrics (THUDM/LongBench @2e00731f)",)
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = (*PAPER_SETS, *OTHER_SETS, *LONGBENCH_E)
    group: ClassVar[tuple[str, ...]] = PAPER_SETS
    preset: str = PRESET

    def __init__(self, options: Options, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.dataset = _dataset(variant)
        if base(self.dataset) in official.NEEDS_JIEBA:
            official.require_jieba()  # now, not when the first answer is there to be scored

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The official archive, downloaded unless it is here; raises UsageError if it cannot be had."""
        return data.fetch(offline)

    def max_context(self) -> int | None:
        """15,500 tokens: what the papers cut prompts to for context-extended methods."""
        return 15_500

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows in file order; ids are the rows' own.

        Raises
        ------
        UsageError
            If the data cannot be had, or a line is broken.
        """
        protocol = PROTOCOLS[base(self.dataset)]
        for row in data.rows(self.dataset, env, self._take_data):
            yield Sample(
                id=row.id,
                prompt=protocol.render(row.context, row.question),
                references=row.answers,
                new_tokens=protocol.new_tokens,
                chat=protocol.chat,
                stop=protocol.stop,
                min_new_tokens=protocol.min_new_tokens,
                metadata=_metadata(row.classes, row.length),
            )

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """The set's official metric, the best over the accepted answers: 0..1."""
        classes: Sequence[str] = sample.metadata.get("all_classes") or ()
        return {"score": official.score(base(self.dataset), prediction, sample.references, classes)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """For a LongBench-E set the mean in each length bucket that holds samples; else nothing."""
        if self.dataset not in LONGBENCH_E:
            return {}
        buckets: dict[str, list[float]] = {"0-4k": [], "4-8k": [], "8k+": []}
        for sample in scored:
            length = sample.metadata["length"]
            name = next((name for bound, name in BUCKETS if length < bound), "8k+")
            buckets[name].append(sample.scores["score"])
        return {name: sum(values) / len(values) for name, values in buckets.items() if values}

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """The papers' averages: the mean over its sets for each category, and over the fourteen sets.

        ``Avg`` weighs sets, not categories (so do the papers). An average that lacks a set is left out: a
        mean over fewer sets under the same name would be compared with numbers it cannot be compared with.
        """
        families = {**CATEGORIES, "Avg": PAPER_SETS}
        return {
            name: sum(means[dataset] for dataset in datasets) / len(datasets)
            for name, datasets in families.items()
            if all(dataset in means for dataset in datasets)
        }

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, from ``answers`` and, for trec and lsht, ``all_classes``.

        Raises
        ------
        UsageError
            If one of the two is missing or no list of strings, or `variant` is None.
        """
        dataset = _dataset(variant)
        answers = data.text_list(row.get("answers"), "answers")
        classes = data.classes_of(dataset, row)
        new_tokens = PROTOCOLS[base(dataset)].new_tokens
        row_id = str(row.get("id", ""))
        return Sample(row_id, Prompt("", "", ""), answers, new_tokens, metadata=_metadata(classes, None))


def _dataset(variant: str | None) -> str:
    if variant is None:
        raise UsageError("longbench is many data sets; name one, as in longbench/trec")
    return variant


def _metadata(classes: tuple[str, ...] | None, length: int | None) -> dict[str, Any]:
    """What goes into the record, without what the row does not have."""
    facts = {"length": length, "all_classes": None if classes is None else list(classes)}
    return {name: value for name, value in facts.items() if value is not None}
