"""LongProc: procedures that have to be followed over thousands of tokens of answer, in five of its six kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts import Prompt, Sample, ScoredSample, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .. import _files
from .._file_task import FileTask
from . import countdown, scores, travel
from .files import COMMIT, cached
from .rows import countdown_facts, samples

SIZES = {
    "html_to_tsv": ("0.5k", "2k", "8k"),
    "path_traversal": ("0.5k", "2k", "8k"),
    "tom_tracking": ("0.5k", "2k", "8k"),
    "countdown": ("0.5k", "2k", "8k"),
    "travel_planning": ("2k", "8k"),
}
NEW_TOKENS = {"0.5k": 1024, "2k": 3072, "8k": 9216}
SETS = tuple(f"{kind}_{size}" for size in NEW_TOKENS for kind, sizes in SIZES.items() if size in sizes)


class LongProc(FileTask):
    """LongProc (https://arxiv.org/abs/2501.05414): procedures followed step by step, in answers of up to 8K tokens.

    ``longproc`` alone stands for the four sets of answers up to 0.5K tokens. Prompts and scores are those of the
    official code; prompts are read from its files. Nothing of an answer is evaluated as code: equations are parsed, and
    ``pseudo_to_code``, whose score compiles and runs the answer, is left out.

    Rows come from ``--data-dir`` (the folder ``data`` of the official repository) or are fetched.
    """

    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (
        f"1: prompts and scores of princeton-pli/LongProc @{COMMIT[:7]}, without pseudo_to_code",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = SETS
    group: ClassVar[tuple[str, ...]] = tuple(name for name in SETS if name.endswith("0.5k"))
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "answer", "reference_output")
    preset: str = f"longproc-official@1 {COMMIT[:7]}"

    def __init__(self, options: Options, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.kind, self.size = _set(variant)

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """All files of the sets offered here; raises UsageError if one cannot be had."""
        return [cached(kind, sizes, offline) for kind, sizes in SIZES.items()][-1]

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows in file order; ids are the rows' own, else their numbers.

        Raises
        ------
        UsageError
            If the data cannot be had, or a row is broken (named by file and line).
        """
        if env.limit is not None and env.limit < 1:
            return
        found = samples(self.kind, self.size, env, self._take_data)
        for taken, (row, prompt) in enumerate(found, start=1):
            facts = dict(row.facts)
            yield Sample(row.id, prompt, (row.reference,), NEW_TOKENS[self.size], metadata=facts)
            if taken == env.limit:
                return

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``score``: whether all is right, of tables F1 of the rows; ``extracted``: whether the answer has its form.

        ``partial``: the share of the procedure before the first mistake; of tables ``precision`` and ``recall``.
        """
        wanted, facts = sample.references[0], sample.metadata
        if self.kind == "html_to_tsv":
            return scores.table(prediction, wanted)
        if self.kind == "path_traversal":
            return scores.route(prediction, wanted)
        if self.kind == "tom_tracking":
            return scores.beliefs(prediction, wanted)
        if self.kind == "countdown":
            return _countdown(prediction, wanted, facts["nums"], facts["target"])
        plan = scores.tagged(prediction, "Plan")
        cities, durations = (str(facts[name]) for name in travel.GOLD)
        right = 0.0 if plan is None else travel.right(cities, durations, plan)
        partial = right or travel.followed(prediction, wanted)
        return {"score": right, "partial": partial, "extracted": float(plan is not None)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The means of the other scores."""
        names = [name for name in scored[0].scores if name != "score"] if scored else []
        return {name: sum(each.scores[name] for each in scored) / len(scored) for name in names}

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """The mean over the kinds of each size of which all are there."""
        every = {size: [name for name in SETS if name.endswith(f"_{size}")] for size in NEW_TOKENS}
        whole = {size: names for size, names in every.items() if all(name in means for name in names)}
        return {f"Avg {size}": sum(means[n] for n in names) / len(names) for size, names in whole.items()}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with: ``answers`` is the right text; of searches ``item`` has what a row has.

        Raises
        ------
        UsageError
            If one of them is missing, or is none.
        """
        kind, _ = _set(variant)
        item: Any = row.get("item")
        item = item if isinstance(item, dict) else row
        if kind == "countdown":
            facts = countdown_facts(item, "the line")
            made = countdown.demonstration(facts["nums"], facts["target"])
            return Sample(str(row.get("id", "")), Prompt("", "", ""), (made,), 1, metadata=facts)
        name = next((each for each in cls.answer_fields if each in row), cls.answer_fields[0])
        found = _files.answers_of(row, name, "the line")
        if len(found) != 1 or not _holds(kind, found[0]):
            raise UsageError(f"field {name!r} must be the one right answer, as the rows have it")
        facts = {}
        if kind == "travel_planning":
            facts = {field: _files.text_of(item, field, "the line") for field in travel.GOLD}
        return Sample(str(row.get("id", "")), Prompt("", "", ""), found, 1, metadata=facts)


def _countdown(prediction: str, wanted: str, numbers: Sequence[int], target: int) -> dict[str, float]:
    """The score of equations; ``partial`` of the search, where that was written, and 0 where it has no step."""
    said = scores.tagged(prediction, "Solution")
    if said is not None and countdown.solves(numbers, target, said):
        return {"score": 1.0, "partial": 1.0, "extracted": 1.0}
    partial = 0.0
    if countdown.HEAD in prediction:
        search = wanted.split(countdown.HEAD)[-1].split(countdown.FOUND)[0]
        partial = max(0.0, countdown.followed(prediction.split(countdown.HEAD)[-1], search))
    return {"score": 0.0, "partial": partial, "extracted": float(said is not None)}


def _holds(kind: str, answer: str) -> bool:
    if kind == "html_to_tsv":
        return scores.is_table(answer)
    if kind == "tom_tracking":
        return scores.has_beliefs(answer)
    return bool(answer.strip())


def _set(variant: str | None) -> tuple[str, str]:
    if variant is None:
        raise UsageError("longproc is several sets; name one, as in longproc/countdown_0.5k")
    kind, _, size = variant.rpartition("_")
    return kind, size
