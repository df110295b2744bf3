"""HELMET: recall, retrieved passages, re-ranking, in-context learning, citing, long questions and summaries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .. import _files
from .._grid import part_means
from . import scoring
from .prompts import COMMIT, TEMPLATES, Template
from .reading import Reader
from .sets import BY_NAME, LENGTHS, SHOTS, Asked, asked, of_table

SOURCE = _files.Source(
    "helmet", ("data",), "princeton-nlp/HELMET", "data.tar.gz", "c5b85e7f0d954ffe71b3fe5b6d1da17a11094b1b"
)
CATEGORIES = {
    "Recall": ("ruler_niah_mk_2", "ruler_niah_mk_3", "ruler_niah_mv", "json_kv"),
    "RAG": ("kilt_nq", "kilt_triviaqa", "kilt_popqa_3", "kilt_hotpotqa"),
    "ICL": tuple(SHOTS),
    "Re-rank": ("msmarco_rerank_psg",),
}
"""Categories that need no judge: their numbers are the official ones."""
PARTLY = {
    "Cite without citations": ("alce_asqa", "alce_qampari"),
    "LongQA without narrativeqa": ("infbench_qa_eng", "infbench_choice_eng"),
}
"""Categories of which a model judges a part officially: the mean of the rest, under a name that says so."""
JUDGED = {"narrativeqa": "rougeL_f1", "infbench_sum_eng": "rougeL_f1", "multi_lexsum": "rougeL_f1"}
"""Sets whose official number is GPT-4's; what is given here instead stands in no average."""


class HelmetOptions(Options):
    """Options of `Helmet`: at which lengths, with how many examples, and whether with the chat template."""

    lengths: list[int] | None = Field(
        None,
        description="lengths of the official files, in tokens: 4096, 8192, 16384, 32768, 65536, 131072; by default the "
        "largest that the model's window holds",
    )
    shots: int = Field(2, ge=0, le=2, description="examples before the question, where a set has them")
    chat: Literal["official", "always", "never"] = Field(
        "official",
        description="the model's chat template: official, where HELMET uses it for open instruct models (LongQA, Summ "
        "and Cite only); always; never, as for base models",
    )

    @field_validator("lengths")
    @classmethod
    def _lengths(cls, lengths: list[int] | None) -> list[int] | None:
        if lengths is not None and (
            not lengths or not set(lengths) <= set(LENGTHS) or len(set(lengths)) < len(lengths)
        ):
            raise ValueError(f"choose from {', '.join(map(str, LENGTHS))}, each once")
        return lengths


class Helmet(Task):
    """HELMET (https://arxiv.org/abs/2410.02694): 21 sets in seven categories, at lengths from 4K to 128K tokens.

    ``helmet`` alone stands for all sets. Prompts, examples, label numbers and scores are those of the official code.
    What a model judges officially is not scored here: see the page.

    Rows come from ``--data-dir``, the unpacked ``data.tar.gz`` of the hub and files for the sets it has not.
    """

    Options = HelmetOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (f"1: prompts and scores of princeton-nlp/HELMET @{COMMIT}",)
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = (*TEMPLATES, *BY_NAME)
    group: ClassVar[tuple[str, ...]] = tuple(TEMPLATES)
    truncation: ClassVar[str] = "context-end"
    options: HelmetOptions

    def __init__(self, options: HelmetOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.dataset = _dataset(variant)
        self.template = TEMPLATES[of_table(self.dataset)]
        self.preset = f"helmet-{self.options.shots}shot-{self.options.chat}@1 {COMMIT}"
        self._files: dict[str, str] = {}

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The official archive (11 GB), which has to be unpacked; raises UsageError if it cannot be had."""
        return _files.fetched(SOURCE, offline)

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the questions of each length in the official order.

        Raises
        ------
        UsageError
            If a file is missing, a row is broken, or instruction and question alone are over a length.
        """
        lengths = self.options.lengths or [
            max([n for n in LENGTHS if n <= env.context_length] or LENGTHS[:1])
        ]
        reader = Reader(env, self.name, self._files.__setitem__)
        taken, told = 0, False
        for length in lengths:
            for question in asked(self.dataset, length, self.options.shots, reader):
                if taken == env.limit:
                    return
                told = told or self._tell(question, env)
                yield self._sample(question, length, env)
                taken += 1

    def _tell(self, question: Asked, env: TaskEnvironment) -> bool:
        """Tell of a question at which nobody can fail: an accepted answer has no word, and stands in every text."""
        free = [each for each in question.answers if not scoring.normalize(each)]
        if not free or _headline(self.dataset) != "substring_exact_match":
            return False
        if env.notify:
            env.notify(
                f"{self.name}: question {question.id} accepts {free[0]!r}, which has no word to look for: whatever is "
                "said is right, as officially; others may be like that"
            )
        return True

    def facts(self) -> dict[str, Any]:
        """Fingerprints of the files that were read."""
        return {"data": dict(sorted(self._files.items()))} if self._files else {}

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``score``, the number of HELMET's table where no model judges it, and every other official measure.

        Without the chat template the beginning of the answer, which the prompt gives, is scored as part of it.
        """
        found = _scored(self.dataset, str(sample.metadata.get("prefix", "")) + prediction, sample)
        measure = _headline(self.dataset)
        return {"score": scoring.headline(found) if measure == "NDCG@10" else found[measure], **found}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The mean of each length and of each depth, where there are several."""
        facts = [name for name in ("length", "depth") if all(name in s.metadata for s in scored)]
        return part_means(scored, "score", facts)

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """Means of the categories; of those judged in part, of the rest, and ``Avg of 4`` over those that are whole.

        One that lacks a set is left out. The official average over seven categories needs the judge.
        """
        found = {
            name: sum(means[each] for each in sets) / len(sets)
            for name, sets in {**CATEGORIES, **PARTLY}.items()
            if all(each in means for each in sets)
        }
        if all(name in found for name in CATEGORIES):
            found["Avg of 4"] = sum(found[name] for name in CATEGORIES) / len(CATEGORIES)
        return found

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, from ``answers`` as the set has them; ``prefix`` began the answer in the prompt.

        Raises
        ------
        UsageError
            If they are missing or of another form, or `variant` is None.
        """
        dataset = _dataset(variant)
        answers = row.get("answers", row.get("answer"))
        prefix = row.get("prefix", "")
        if not isinstance(prefix, str):
            raise UsageError("field 'prefix' must be a string")
        if dataset.startswith(("alce", "msmarco")):
            by_id = dataset.startswith("msmarco")
            if not (scoring.are_labels(answers) if by_id else scoring.are_groups(answers)):
                what = "labels by id, one of them above 0" if by_id else "a list of lists of texts"
                raise UsageError(f"field 'answers' must be {what}")
            answers = [json.dumps(answers)]
        found = _files.answers_of({"answers": answers}, "answers", "the line")
        if dataset == "infbench_choice_eng" and len(found) != 2:
            raise UsageError('field \'answers\' must be the right letter and the option: "B", "B. text"')
        documents = row.get("documents", 1000)
        if type(documents) is not int or documents < 1:
            raise UsageError("field 'documents' must be a whole number, at least 1")
        facts = {"prefix": prefix, "documents": documents}
        return Sample(str(row.get("id", "")), Prompt("", "", ""), found, 1, metadata=facts)

    def _sample(self, question: Asked, length: int, env: TaskEnvironment) -> Sample:
        template = self.template
        chat = {"official": template.chat, "always": True, "never": False}[self.options.chat]
        chat = chat and bool(getattr(env.tokenizer, "chat_template", None))  # a base model completes
        prefix = "" if chat else template.begins(question.given)
        begins = f"{template.gap}{prefix}" if prefix else ""
        prompt, cut = shortened(template, question, length - template.new_tokens, env, chat, begins)
        facts = {
            "length": length,
            **({"prefix": prefix} if prefix else {}),
            **({"cut_tokens": cut} if cut else {}),
        }
        return Sample(
            f"{length}-{question.id}",
            prompt,
            question.answers,
            template.new_tokens,
            chat=chat,
            answer_prefix=begins,
            metadata={**facts, **question.facts},
        )


def shortened(
    template: Template, question: Asked, limit: int, env: TaskEnvironment, chat: bool, begins: str
) -> tuple[Prompt, int]:
    """The prompt, with the end of its context cut so that all of it has about `limit` tokens; and the tokens cut."""
    prompt = template.render(question.context, question.given)
    excess = env.count(prompt, chat, begins) - limit
    if excess <= 0:
        return prompt, 0
    return replace(prompt, context=without_last(question.context, excess, env.tokenizer)), excess


def without_last(context: str, excess: int, tokenizer: Any) -> str:
    """`context` up to the character where the last `excess` of its tokens begin. Raises UsageError if they are all."""
    places = tokenizer(context, return_offsets_mapping=True)["offset_mapping"]
    if excess >= len(places):
        raise UsageError(
            f"helmet: instruction and question alone are over the length; {excess} tokens are too many"
        )
    return context[: places[-excess][0]]


def _dataset(variant: str | None) -> str:
    if variant is None:
        raise UsageError("helmet is many sets; name one, as in helmet/kilt_nq")
    return variant


def _headline(dataset: str) -> str:
    """The measure that HELMET's table has of a set, or what stands for a judge's."""
    if dataset in JUDGED:
        return JUDGED[dataset]
    named = {"alce_asqa": "str_em", "alce_qampari": "qampari_rec_top5", "msmarco_rerank_psg": "NDCG@10"}
    named |= {"infbench_qa_eng": "rougeL_f1", "infbench_choice_eng": "exact_match"}
    named |= dict.fromkeys(SHOTS, "exact_match")
    return named.get(
        of_table(dataset), "ruler_recall" if dataset.startswith("ruler") else "substring_exact_match"
    )


def _scored(dataset: str, output: str, sample: Sample) -> dict[str, float]:
    """Every official measure of an output."""
    answers = sample.references
    if of_table(dataset) in SHOTS:
        return scoring.label(output, answers)
    if dataset.startswith("ruler"):
        return scoring.recall(output, answers)
    if dataset == "msmarco_rerank_psg":
        return scoring.ndcg(output, json.loads(answers[0]), int(sample.metadata["documents"]))
    if dataset == "alce_asqa":
        return scoring.short_answers(output, json.loads(answers[0]))
    if dataset == "alce_qampari":
        return scoring.listed(output, json.loads(answers[0]))
    if dataset == "infbench_choice_eng":
        return scoring.choice(output, answers)
    prefix = {"json_kv": "corresponding value:", "multi_lexsum": "Summary:", "infbench_sum_eng": "Summary:"}
    return scoring.best(output, answers, prefix.get(dataset, "Answer:"))
