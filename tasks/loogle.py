"""LooGLE: short and long dependencies in papers, articles and scripts; several questions over each document."""

from __future__ import annotations

import ast
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from harness.contracts import Prompt, Sample, ScoredSample, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from . import _files
from ._file_task import FileTask

COMMIT = "6734382"
REPOSITORY = "bigainlco/LooGLE"
REVISION = "4b50b4cb9333b48b3f7ddfd307c1d13369be5d1e"
SETS = ("shortdep_qa", "longdep_qa", "longdep_summarization", "shortdep_cloze")
_QA = "Please answer the question based on the long texts below. \n{input}\nQuestion: {Q}\nAnswer: "
TEMPLATES = {
    "shortdep_qa": _QA,
    "longdep_qa": _QA,
    "longdep_summarization": "Please generate a summary of the below paper. \n{input}\n Summarization: ",
    "shortdep_cloze": (
        "Please fill in the clozes based on the given long texts below. Each of the placeholder '<mask-n>' in the "
        "question could be an entity of Person, Location or Organiocation. The same masks represent the same entity. "
        "Output a json format answer, for example: {'<mask-0>': 'Bob', '<mask-1>': 'Gorrosion Magazine','<mask-2>': "
        "'Bethel Horizon'}\n{input}\n Question: {Q} What are the masked entities? \nAnswer:"
    ),
}
SOURCES = {
    name: _files.Source(
        f"loogle/{name}",
        (f"{name}.jsonl", f"{name}.json"),
        REPOSITORY,
        revision=REVISION,
        split="test",
        config=name,
    )
    for name in SETS
}
NEW_TOKENS = {"shortdep_qa": 300, "longdep_qa": 500, "longdep_summarization": 500, "shortdep_cloze": 50}
OVERLAPS = ("rougeL", "rouge1", "rouge2", "bleu1", "bleu4")


class Loogle(FileTask):
    """LooGLE (https://arxiv.org/abs/2311.04939): questions, clozes and summaries of documents after 2022.

    ``loogle`` alone stands for the four sets. Prompts and the overlap scores are those of the official code; the
    headline of the paper is a model's judgement, which is left out. A document's questions follow each other, so that a
    method that is blind to them compresses it once.

    Rows come from ``--data-dir`` (``<set>.jsonl``) or from the hub.
    """

    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (f"1: prompts and scores of bigai-nlco/LooGLE @{COMMIT}",)
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = SETS
    group: ClassVar[tuple[str, ...]] = SETS
    preset: str = f"loogle-official@1 {COMMIT}"

    def __init__(self, options: Options, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.dataset = _dataset(variant)

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The four sets, into the hub's cache; raises UsageError if they cannot be had."""
        return [_files.fetched(source, offline) for source in SOURCES.values()][-1]

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the questions document by document; ids are the numbers of document and question.

        Raises
        ------
        UsageError
            If the data cannot be had, or a row is broken (named by file and line).
        """
        taken = 0
        for number, (row, place) in enumerate(_files.rows(SOURCES[self.dataset], env, self._take_data)):
            text = _files.text_of(row, "input", place)
            for index, (question, answer) in enumerate(_pairs(self.dataset, row, place)):
                if taken == env.limit:
                    return
                facts = {"document": number}
                if self.dataset == "shortdep_cloze":
                    facts["masks"] = len(_cloze(answer) or ())
                prompt = rendered(self.dataset, text, question)
                new_tokens = NEW_TOKENS[self.dataset]
                yield Sample(f"{number}-{index}", prompt, (answer,), new_tokens, chat=False, metadata=facts)
                taken += 1

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """Clozes: ``score`` is the share of the masks whose entity is said exactly, ``partial`` in a word of it.

        Else the recall of ROUGE-L, with ROUGE-1, ROUGE-2, BLEU-1 and BLEU-4 beside it.
        """
        if self.dataset == "shortdep_cloze":
            exact, partial = filled(prediction, _cloze(sample.references[0]) or {})
            return {"score": exact, "partial": partial}
        found = overlaps(prediction, sample.references[0])
        return {"score": found["rougeL"], **found}

    def aggregate(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """Means; of clozes over all masks, as officially, not over questions."""
        if self.dataset != "shortdep_cloze" or not scored:
            return super().aggregate(scored)
        masks = sum(each.metadata["masks"] for each in scored)
        names = ("score", "partial")
        return {n: sum(each.scores[n] * each.metadata["masks"] for each in scored) / masks for n in names}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The other overlaps, or partial matches."""
        if self.dataset == "shortdep_cloze":
            return {"partial": self.aggregate(scored)["partial"]}
        return {name: sum(each.scores[name] for each in scored) / len(scored) for name in OVERLAPS}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with: ``answers`` holds the answer, of a cloze an object of masks (or its text).

        Raises
        ------
        UsageError
            If it is missing or of another form, or `variant` is None.
        """
        dataset = _dataset(variant)
        given = row.get("answers", row.get("answer"))
        found = given[0] if isinstance(given, list) and len(given) == 1 else given
        if dataset == "shortdep_cloze" and isinstance(found, dict):
            found = repr(found)
        if not isinstance(found, str) or (dataset == "shortdep_cloze" and not _cloze(found)):
            raise UsageError(
                "field 'answers' must hold one answer: a string, or for clozes an object of masks"
            )
        return Sample(str(row.get("id", "")), Prompt("", "", ""), (found,), NEW_TOKENS[dataset])


def rendered(dataset: str, text: str, question: str) -> Prompt:
    """The prompt of a question; its parts joined are the official text."""
    before, _, after = TEMPLATES[dataset].partition("{input}")
    return Prompt(before, text, after.replace("{Q}", question), question)


def filled(prediction: str, entities: Mapping[str, Any]) -> tuple[float, float]:
    """Shares of the masks that are right, exactly and by a word in common. What is no dictionary fills none.

    Officially the model's words are evaluated as code; here only literals are read, and an entity that is no text, on
    which the official partial match breaks off, is wrong.
    """
    said = _cloze(prediction.strip()) or {}
    exact = [name in said and said[name] == entity for name, entity in entities.items()]
    partial = [
        isinstance(said.get(name), str) and bool(set(said[name].split()) & set(str(entity).split()))
        for name, entity in entities.items()
    ]
    return sum(exact) / max(1, len(exact)), sum(partial) / max(1, len(partial))


def overlaps(prediction: str, answer: str) -> dict[str, float]:
    """Recall of ROUGE-1, 2 and L (package ``rouge``), and BLEU of single words and of four; an empty answer is "None".

    ROUGE-L is 0 where the package's recursion ends.
    """
    said = prediction if prediction.strip() else "None"
    found = dict.fromkeys(OVERLAPS, 0.0)
    for name, stat in (("rouge1", "rouge-1"), ("rouge2", "rouge-2"), ("rougeL", "rouge-l")):
        try:
            found[name] = float(_rouge(stat).get_scores([said], [answer], avg=True)[stat]["r"])
        except (RecursionError, ValueError):  # too long, or nothing but periods
            continue
    found["bleu1"], found["bleu4"] = (bleu(said.split(), answer.split(), order) for order in (1, 4))
    return found


def bleu(said: Sequence[str], wanted: Sequence[str], order: int) -> float:
    """nltk's ``sentence_bleu`` with all the weight on n-grams of one order, without smoothing."""
    if not said or not _matches(said, wanted, 1)[0]:
        return 0.0
    matched, of = _matches(said, wanted, order)
    precision = matched / of if matched else sys.float_info.min
    brevity = 1.0 if len(said) > len(wanted) else math.exp(1 - len(wanted) / len(said))
    return brevity * math.exp(math.log(precision))


def _matches(said: Sequence[str], wanted: Sequence[str], order: int) -> tuple[int, int]:
    """How many n-grams of a text are in another, each as often as there; and how many there are, at least 1."""
    mine, others = (
        Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
        for words in (said, wanted)
    )
    return sum((mine & others).values()), max(1, sum(mine.values()))


@cache
def _rouge(stat: str) -> Any:
    from rouge import Rouge

    return Rouge(metrics=[stat])


def _pairs(dataset: str, row: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    """Questions with their answers; a summary has no question, and its answer is ``output``."""
    if dataset == "longdep_summarization":
        yield "", _files.text_of(row, "output", place)
        return
    found = row.get("qa_pairs")
    if isinstance(found, str):
        try:
            found = ast.literal_eval(found)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
    if not isinstance(found, list) or not all(
        isinstance(each, dict) and {"Q", "A"} <= each.keys() for each in found
    ):
        raise UsageError(
            f"{place}: field 'qa_pairs' must be a list of objects with Q and A, or one written out"
        )
    for each in found:
        answer = repr(each["A"]) if isinstance(each["A"], dict) else each["A"]
        if not isinstance(answer, str) or (dataset == "shortdep_cloze" and not _cloze(answer)):
            raise UsageError(f"{place}: answer {each['A']!r} is no text, or of a cloze no object of masks")
        yield str(each["Q"]), answer


def _cloze(text: str) -> dict[str, Any] | None:
    """A dictionary written out as a Python literal; None of anything else."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _dataset(variant: str | None) -> str:
    if variant is None:
        raise UsageError("loogle is four sets; name one, as in loogle/shortdep_qa")
    return variant
