"""ZeroSCROLLS: ten tasks of summaries, questions and sorting, whose rows bring their whole prompt."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pydantic import Field

from harness.contracts import Prompt, Sample, ScoredSample, TaskEnvironment
from harness.errors import Unavailable, UsageError
from harness.options import Options

from . import _files
from ._file_task import FileTask
from ._rows import from_hub

COMMIT = "c994676"
REPOSITORY = "tau/zero_scrolls"
NEW_TOKENS = {
    "gov_report": 1024,
    "summ_screen_fd": 512,
    "qmsum": 512,
    "squality": 512,
    "qasper": 128,
    "narrative_qa": 64,
    "quality": 10,
    "musique": 32,
    "space_digest": 36,
    "book_sum_sort": 256,
}
SUMMARIES = ("gov_report", "summ_screen_fd", "qmsum", "squality")
QUESTIONS = ("qasper", "narrative_qa", "musique")
BRIEF = " Do not provide any explanation."
HEADER = 9
"""Tokens that the official code keeps free for the header of a chat."""


class ZeroScrollsOptions(Options):
    """Options of `ZeroScrolls`: which split, and how many tokens there are."""

    split: Literal["validation", "test"] = Field(
        "validation",
        description="validation, about 20 rows a task; test, whose answers are hidden: predictions only",
    )
    max_tokens: int | None = Field(
        None, ge=64, description="tokens of prompt and answer together; by default the model's window"
    )
    chat: Literal["auto", "never"] = Field(
        "auto",
        description="the official prompt for chat models where the model has a template, or that for completion",
    )


class ZeroScrolls(FileTask):
    """ZeroSCROLLS (https://arxiv.org/abs/2305.14196): ten tasks over long texts, without training examples.

    ``zero_scrolls`` alone stands for all ten. A row has its whole prompt; how it is changed for chat models and cut is
    the official code's. The answers of the test split are hidden: a run on it has no score, and `harness report --kind
    zero_scrolls` writes its predictions in the form that the leaderboard takes.
    """

    Options = ZeroScrollsOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (
        f"1: prompts of tau-nlp/zero_scrolls @{COMMIT}, scores by the paper",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = tuple(NEW_TOKENS)
    group: ClassVar[tuple[str, ...]] = tuple(NEW_TOKENS)
    truncation: ClassVar[str] = "context-end"
    bare_names: ClassVar[bool] = False  # LongBench has qasper, qmsum and others
    options: ZeroScrollsOptions

    def __init__(self, options: ZeroScrollsOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.task = _task(variant)
        self.preset = f"zero-scrolls-{self.options.chat}@1 {COMMIT}"

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The ten archives of the hub; raises UsageError if one cannot be had."""
        return [_archive(task, offline) for task in NEW_TOKENS][-1].parent

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the rows in file order; rows of one id are one sample with several references.

        Raises
        ------
        UsageError
            If the data cannot be had, a row is broken, or its question alone is over the tokens there are.
        """
        chat = self.options.chat == "auto" and bool(getattr(env.tokenizer, "chat_template", None))
        limit = self.options.max_tokens or env.context_length
        rows: dict[str, tuple[Mapping[str, Any], str]] = {}
        answers: dict[str, list[str]] = {}
        for row, place in self._rows(env):
            row_id = _files.text_of(row, "id", place)
            rows.setdefault(row_id, (row, place))
            if self.options.split == "validation":
                answers.setdefault(row_id, []).append(_files.answer_of(row, "output", place))
        for number, (row_id, (row, place)) in enumerate(rows.items()):
            if number == env.limit:
                return
            prompt, cut = rendered(self.task, row, place, chat, limit, env.tokenizer)
            facts = {"split": self.options.split, **({"cut_tokens": cut} if cut else {})}
            found = tuple(answers.get(row_id, ()))
            yield Sample(row_id, prompt, found, NEW_TOKENS[self.task], chat=chat, metadata=facts)

    def _rows(self, env: TaskEnvironment) -> Iterator[tuple[Mapping[str, Any], str]]:
        file = f"{self.task}/{self.options.split}.jsonl"
        if env.data_dir is None:
            raise Unavailable(
                f"{self.name}: unpack {_archive(self.task, env.offline)} and give --data-dir the folder with {file}"
            )
        path = _files.located(_files.Source(self.name, (file,)), env)
        yield from _files.read(path, self._take_data)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """The task's score, the best over the references: 0..1; 0 where they are hidden, which no mean is made of."""
        return {
            "score": max((scored(self.task, prediction, each) for each in sample.references), default=0.0)
        }

    def aggregate(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean; none where the answers are hidden."""
        if any(each.metadata["split"] == "test" for each in scored):
            return cast("dict[str, float]", {"score": None})
        return super().aggregate(scored)

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """``Avg``, the mean over the ten tasks; left out if one is missing."""
        return {"Avg": sum(means[t] for t in NEW_TOKENS) / 10} if all(t in means for t in NEW_TOKENS) else {}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, from ``answers`` or ``output``; raises UsageError if they are missing."""
        _task(variant)
        field = "answers" if "answers" in row else "output"
        found = _files.answers_of(row, field, "the line")
        return Sample(str(row.get("id", "")), Prompt("", "", ""), found, 1, metadata={"split": "validation"})


def rendered(
    task: str, row: Mapping[str, Any], place: str, chat: bool, limit: int, tokenizer: Any
) -> tuple[Prompt, int]:
    """The official prompt of a row, cut so that prompt and answer have `limit` tokens; and how many tokens went."""
    text = _files.text_of(row, "input", place)
    names = ("document_start_index", "document_end_index", "query_start_index", "query_end_index")
    places = [at for name in names if type(at := row.get(name)) is int]
    if len(places) < len(names) or not [0, *places, len(text)] == sorted([0, *places, len(text)]):
        raise UsageError(f"{place}: {', '.join(names)} must be ascending places in the text")
    start, end, query, query_end = places
    if chat and task not in SUMMARIES:
        border = text.find("\n\n")
        border = border if 0 <= border <= start else start
        text = text[:border] + BRIEF + text[border:]
        start, end, query, query_end = (each + len(BRIEF) for each in (start, end, query, query_end))
    if chat:
        text = text[:query_end]
    ids = _ids(tokenizer, text)
    if len(ids) + NEW_TOKENS[task] + 1 <= limit:  # the header of a chat is only counted in what is cut
        return Prompt(text[:start], text[start:end], text[end:], text[query:query_end]), 0
    tail = _files.text_of(row, "truncation_seperator", place) + text[query:]
    most = limit - len(_ids(tokenizer, tail)) - NEW_TOKENS[task] - 1 - (HEADER if chat else 0)
    if most < 1:
        raise UsageError(f"{place}: the question alone is over the {limit:,} tokens there are")
    head = str(tokenizer.decode(ids[:most]))
    return Prompt(head[:start], head[start:], tail, text[query:query_end]), len(ids) - most


def scored(task: str, prediction: str, answer: str) -> float:
    """The score of one answer, 0..1, by the paper's description."""
    if task in SUMMARIES:
        found = _rouge().score(target=answer, prediction=prediction)
        product = 1.0
        for name in ("rouge1", "rouge2", "rougeL"):
            product *= found[name].fmeasure
        return float(product ** (1 / 3))
    if task in QUESTIONS:
        return f1(prediction, answer)
    if task == "quality":
        return float(_letter(prediction) == _letter(answer) is not None)
    if task == "space_digest":
        said, right = _percent(prediction), _percent(answer)
        return 0.0 if said is None or right is None else float(0.5 ** (abs(said - right) / 10))
    return concordance(prediction, answer)


def f1(prediction: str, answer: str) -> float:
    """SQuAD's F1 of normalized words."""
    first, second = _words(prediction), _words(answer)
    same = sum((Counter(first) & Counter(second)).values())
    return 2 * same / (len(first) + len(second)) if same else 0.0


def concordance(prediction: str, answer: str) -> float:
    """Share of the pairs in the right order; 0 for what is no permutation of the right numbers."""
    said, right = (re.findall(r"\d+", text) for text in (prediction, answer))
    if sorted(said) != sorted(right) or len(right) < 2:
        return 0.0
    at = {each: place for place, each in enumerate(said)}
    pairs = [(a, b) for i, a in enumerate(right) for b in right[i + 1 :]]
    return sum(at[a] < at[b] for a, b in pairs) / len(pairs)


def _words(text: str) -> list[str]:
    text = "".join(char for char in text.lower() if char not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _letter(text: str) -> str | None:
    match = re.search(r"\(([A-D])\)|\b([A-D])\b", text)
    return None if match is None else match[1] or match[2]


def _percent(text: str) -> float | None:
    match = re.search(r"\d+(?:\.\d+)?", text)
    return None if match is None else float(match[0])


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _archive(task: str, offline: bool) -> Path:
    return from_hub(
        "zero_scrolls", REPOSITORY, f"{task}.zip", offline, f"give --data-dir {task}/validation.jsonl"
    )


def _task(variant: str | None) -> str:
    if variant is None:
        raise UsageError("zero_scrolls is ten tasks; name one, as in zero_scrolls/qasper")
    return variant
