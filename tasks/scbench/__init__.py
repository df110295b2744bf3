"""SCBench: long contexts that several questions share, asked together in turn or each of the compressed context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.contracts.task import Question
from harness.errors import UsageError
from harness.options import Options

from . import functions
from .prompts import PARTS, TASKS, Turn, multi_request, multi_turn, new_tokens, spoken
from .rows import OLD, Row, located, read_rows
from .scores import CHARACTERS, score
from .table import official_numbers

COMMIT = "fb56c917"
REPOQA = frozenset(("repoqa", "repoqa_and_kv"))


class ScbenchOptions(Options):
    """Options of `Scbench`."""

    mode: Literal["multi-request", "multi-turn"] = Field(
        "multi-request",
        description="multi-request: the context is read before any question, and each is asked of it alone (officially "
        "scdq); multi-turn: each question follows the ones before it and their answers",
    )
    answers: Literal["reference", "own"] = Field(
        "reference",
        description="multi-turn: whose answers later questions find, the row's or the model's own",
    )
    max_turns: int = Field(5, ge=1, description="questions of a context that are asked, as officially")


class Scbench(Task):
    """SCBench (https://arxiv.org/abs/2412.10319): twelve tasks of several questions over one shared long context.

    Each context is a sample with several questions. In ``multi-request`` mode a method that compresses without the
    question compresses it once and answers all of them; in ``multi-turn`` mode later questions follow the answers
    to earlier ones. Prompts and scores are those of the official code, oddities included.
    """

    Options = ScbenchOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = (
        f"1: official prompts and scores (microsoft/MInference @{COMMIT})",
    )
    metrics: ClassVar[tuple[str, ...]] = ("score", "whole")
    variants: ClassVar[tuple[str, ...]] = TASKS
    group: ClassVar[tuple[str, ...]] = TASKS
    answer_fields: ClassVar[tuple[str, ...]] = ("answers", "answer", "ground_truth")
    options: ScbenchOptions

    def __init__(self, options: ScbenchOptions, name: str, variant: str | None = None) -> None:
        super().__init__(options, name, variant)
        self.task = _task(variant)
        how = f"-{options.answers}" if options.mode == "multi-turn" else ""
        self.preset = f"scbench-{options.mode}{how}@1 {COMMIT}"
        self._facts: dict[str, Any] = {}
        self._needles: dict[tuple[str, str], dict[str, str]] = {}

    @classmethod
    def fetch(cls, offline: bool) -> Path:
        """The published files; raises UsageError if they cannot be had."""
        env = TaskEnvironment(None, 0, lambda *given: 0, offline=offline)
        paths = [located(task, env)[0] for task in TASKS]
        return paths[0].parent

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield a sample for each context in file order; ids are the rows' own.

        Raises
        ------
        UsageError
            If the data cannot be had, or a row is broken (named by file and line).
        """
        if self.task in REPOQA:
            functions.require()  # now, not when the first answer is there to be scored
        path, revision = located(self.task, env)
        self._facts["revision"] = revision
        if revision.startswith("early") and env.notify:
            env.notify(
                f"{self.name}: {path.name} is of an early revision of SCBench's data, whose names began with {OLD}"
            )

        def rows() -> Iterator[Row]:
            return read_rows(self.task, path, self._take_data, self.options.max_turns)

        if self.task in REPOQA:  # an answer is held against all functions of its repository
            for row in read_rows(self.task, path, self._take_data, 10**9):
                for turn in row.turns:
                    if turn.part == "repoqa":
                        known = self._needles.setdefault(_repository(row.facts), {})
                        known.setdefault(turn.name, str(turn.answer))
        number = 0
        for number, row in enumerate(rows(), start=1):
            yield self._sample(row, env.chat)
            if number == env.limit:
                return
        if not number:
            raise UsageError(f"{path}: no rows in it")

    def _sample(self, row: Row, chat: bool) -> Sample:
        in_turn = self.options.mode == "multi-turn"
        asked = (
            multi_turn(self.task, row.turns, chat=chat) if in_turn else multi_request(self.task, row.turns)
        )
        begins = asked.begins or ("",) * len(row.turns)
        questions = [
            Question(
                suffix=text,
                references=_references(turn),
                new_tokens=new_tokens(self.task, turn.part),
                question=turn.asked,
                answer_prefix=begin,
                answer=spoken(turn.answer),
                joint=asked.joint,
                metadata=_question_facts(turn, number),
            )
            for number, (turn, text, begin) in enumerate(zip(row.turns, asked.questions, begins), start=1)
        ]
        turns = "apart" if not in_turn else self.options.answers
        return Sample.several(
            row.id, asked.prefix, row.context, questions, turns=turns, metadata=dict(row.facts)
        )

    def _take_data(self, fingerprint: str) -> None:
        self._facts["data"] = fingerprint

    def facts(self) -> dict[str, Any]:
        """A fingerprint of the file, and the revision it is of: other rows are another run."""
        return dict(self._facts)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``score``: the official score of the question's kind. ``whole``: with a label that is one text taken as one.

        They differ where the official scorer walks over the characters of a label.
        """
        facts = sample.metadata
        part = str(facts.get("part", self.task))
        if part == "repoqa":
            needles = facts.get("needles") or self._needles.get(_repository(facts), {})
            found = functions.repeated(prediction, str(facts["name"]), needles, str(facts["lang"]))
            return {"score": found, "whole": found}
        if facts.get("never"):
            return {"score": 0.0, "whole": 0.0}
        whole = score(part, prediction, sample.references)
        if not facts.get("characters"):
            return {"score": whole, "whole": whole}
        return {"score": score(part, prediction, tuple(sample.references[0])), "whole": whole}

    def aggregate(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """Multi-request: the mean over all questions; multi-turn: the mean of the means of each turn."""
        answers = [(n, a.scores) for s in scored for n, a in enumerate(s.answers)]
        if self.options.mode == "multi-request" or not answers:
            found = [scores for _, scores in answers] or [s.scores for s in scored]
            return {m: sum(scores[m] for scores in found) / len(found) for m in self.metrics}
        turns = sorted({n for n, _ in answers})
        by_turn = [[scores for n, scores in answers if n == turn] for turn in turns]
        return {
            m: sum(sum(s[m] for s in mine) / len(mine) for mine in by_turn) / len(turns) for m in self.metrics
        }

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The numbers of the official table: for each turn, for each kind of question where there are two."""
        answers = [(n, a) for s in scored for n, a in enumerate(s.answers, start=1)]
        return official_numbers(
            self.task,
            self.options.mode == "multi-request",
            [(n, str(a.metadata.get("part", self.task)), a.scores["score"]) for n, a in answers],
        )

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """``Avg``: the mean of all twelve tasks; nothing if one is missing."""
        return {"Avg": sum(means.values()) / len(TASKS)} if set(TASKS) <= set(means) else {}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample to `score` with, from ``answers`` (text, list or number) and, of two kinds, ``subtask``.

        RepoQA needs ``func_name``, ``lang`` and ``needles_of_repo``, a list of ``{"name": ..., "needle": ...}``.

        Raises
        ------
        UsageError
            If something of this is missing.
        """
        task = _task(variant)
        part = str(row.get("subtask", task)).removeprefix("scbench_")
        if part not in PARTS.get(task, (task,)):
            raise UsageError(f"field 'subtask' must be one of {', '.join(PARTS.get(task, (task,)))}")
        given = next((row[name] for name in cls.answer_fields if name in row), None)
        facts: dict[str, Any] = {"part": part}
        if part == "repoqa":
            functions.require()
            facts |= {"name": row.get("func_name"), "lang": row.get("lang"), "needles": _needles(row)}
            if not isinstance(facts["name"], str) or not isinstance(facts["lang"], str):
                raise UsageError("RepoQA needs fields 'func_name' and 'lang'")
        number = given[0] if isinstance(given, list) and given else given
        if part == "mf" and (not isinstance(number, int | float) or isinstance(number, bool)):
            raise UsageError(f"the answer {number!r} must be a number")
        facts |= {"never": part == "passkey" and isinstance(number, int)}
        labels = [given] if not isinstance(given, list) else given
        if not _are_answers(labels):
            raise UsageError("field 'answers' must be a text, a number or a list of texts, and not empty")
        if isinstance(given, str) and part in {*CHARACTERS, "qa_eng"}:
            facts["characters"] = True
        if part == "choice_eng" and len(labels) != 2:
            raise UsageError("field 'answers' must be the text of the right option and its letter")
        return Sample(str(row.get("id", "")), Prompt("", "", ""), tuple(map(str, labels)), 1, metadata=facts)


def _task(variant: str | None) -> str:
    if variant is None:
        raise UsageError("scbench is twelve tasks; name one, as in scbench/kv")
    return variant


def _are_answers(labels: Sequence[Any]) -> bool:
    """Whether something can be scored by accepted answers: a blank one stands in every text."""
    return bool(labels) and all(
        isinstance(each, int | float) or (isinstance(each, str) and each.strip()) for each in labels
    )


def _repository(facts: Mapping[str, Any]) -> tuple[str, str]:
    return str(facts.get("lang")), str(facts.get("repo"))


def _references(turn: Turn) -> tuple[str, ...]:
    """The accepted answers of a question."""
    labels = turn.answer if isinstance(turn.answer, list) else [turn.answer]
    if turn.part == "choice_eng":
        return str(labels[0]), "ABCD"[turn.options.index(labels[0])]
    return tuple(map(str, labels))


def _question_facts(turn: Turn, number: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"turn": number, "part": turn.part}
    if turn.name:
        facts["name"] = turn.name
    if turn.part in CHARACTERS and isinstance(turn.answer, str):
        facts["characters"] = True
    return facts


def _needles(row: Mapping[str, Any]) -> dict[str, str]:
    given = row.get("needles_of_repo")
    good = isinstance(given, list) and all(
        isinstance(n, dict) and isinstance(n.get("name"), str) and isinstance(n.get("needle"), str)
        for n in given
    )
    if not given or not good:
        raise UsageError("RepoQA needs the field 'needles_of_repo', all functions of the repository")
    return {needle["name"]: needle["needle"] for needle in row["needles_of_repo"]}
