"""Synthetic data as a task: what a recipe wrote, asked of any method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from ..longbench.metrics import qa_f1
from ..longbench.rouge_l import rouge_l
from .questions import SHORT_ANSWER, asked

DATA = "data.jsonl"
LONG = frozenset({"summarization", "few_shot_summarization", "sim_diff", "explain", "summary"})
"""Tasks and kinds of question whose answers are prose, scored by ROUGE-L; all others by token F1."""
LONG_ANSWER = 640
FACTS = ("task", "kind", "label", "tokens", "passages", "evidence")


class SyntheticOptions(Options):
    """Options of `Synthetic`."""

    file: Path | None = Field(
        None, description="folder that `harness synth` wrote, or its data.jsonl; must be given"
    )
    tasks: list[str] | None = Field(None, description="only samples of these tasks of the recipe")


class Synthetic(Task):
    """Samples that `harness synth` wrote, scored by what each task asks for.

    One metric, ``score``: for summaries, comparisons and explanations ROUGE-L F, for all others the F1 of
    the bags of words, both as LongBench computes them; an introducing label (``Answer:``) counts in neither
    text. References were written by a model: a score says how far an answer agrees with it. The metadata of
    a sample keeps where its evidence is, in characters and tokens of the prompt.

    Of a dialogue each question is a sample of its own. Its context is all that stood before it up to the end of the
    last document, earlier questions and answers included: questions asked between two documents share one context,
    which a method reads once if it can.
    """

    Options = SyntheticOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: first version",)
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    preset: str = "synthetic@1"
    options: SyntheticOptions

    def __init__(self, options: SyntheticOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        if options.file is not None:
            # The data decides the answers, not its path: a run over other data is another run.
            self.preset = f"synthetic@1 {_content(_data_file(options.file))[:16]}"

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the file's lines in their order; one is in memory at a time.

        Raises
        ------
        UsageError
            If no file is given, it is missing or has nothing to ask, or a line is broken.
        """
        return islice(self._rows(), env.limit)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``score``: 0..1 against the one reference."""
        label = str(sample.metadata.get("label") or "").strip()
        metric = rouge_l if _long(sample.metadata) else qa_f1
        found = prediction.strip().removeprefix(label).strip()
        return {"score": max((metric(found, reference) for reference in sample.references), default=0.0)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean of each task of the recipe, and of each kind of question of a dialogue, where there are several."""
        rows: dict[str, list[float]] = {}
        for sample in scored:
            kind = f" {sample.metadata.get('kind')}" if "about" in sample.metadata else ""
            rows.setdefault(f"{sample.metadata.get('task')}{kind}", []).append(sample.scores["score"])
        return (
            {name: sum(found) / len(found) for name, found in sorted(rows.items())} if len(rows) > 1 else {}
        )

    def _rows(self) -> Iterator[Sample]:
        path = self.options.file
        if path is None:
            raise UsageError(
                "synthetic: name the data, --set synthetic.file=FOLDER, as harness synth wrote it"
            )
        path = path / DATA if path.is_dir() else path
        wanted, found = self.options.tasks, 0
        try:
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    for sample in _samples(line, f"{path}, line {number}"):
                        if wanted is None or sample.metadata["task"] in wanted:
                            found += 1
                            yield sample
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"synthetic: {path} cannot be read: {error}") from None
        if not found:
            raise UsageError(f"{path}: no sample" + (f" of {', '.join(wanted)}" if wanted else "") + " in it")


def _data_file(path: Path) -> Path:
    return path / DATA if path.is_dir() else path


def _content(path: Path) -> str:
    """SHA-256 (hex) of a file, in pieces. Raises UsageError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"synthetic: {path} cannot be read: {error.strerror}") from None


def _samples(line: str, where: str) -> Iterator[Sample]:
    """The one sample of a line, or those of a dialogue."""
    try:
        row = json.loads(line)
        found = asked(row) if "messages" in row else [_sample(row)]
        for sample in found:
            if not all(isinstance(sample.metadata.get(name), str | None) for name in ("task", "kind")):
                raise TypeError("task and kind must be text")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise UsageError(f"{where}: no sample of harness synth ({error})") from None
    yield from found


def _sample(row: Mapping[str, Any]) -> Sample:
    (_, prefix), (_, context), _ = row["prefix"], row["context"], row["suffix"]
    text, label = str(row["prompt"]), str(row["label"])
    prompt = Prompt(text[:prefix], text[prefix:context], text[context:], str(row["question"]))
    facts: dict[str, Any] = {name: row[name] for name in FACTS}
    reference = str(row["answer"]).removeprefix(label)
    new_tokens = LONG_ANSWER if _long(facts) else SHORT_ANSWER
    return Sample(str(row["id"]), prompt, (reference,), new_tokens, metadata=facts)


def _long(facts: Mapping[str, Any]) -> bool:
    return bool({facts.get("task"), facts.get("kind")} & LONG)
