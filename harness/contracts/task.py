"""The contract of a task: where samples come from, how an answer is scored, how scores are averaged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ..errors import UsageError
from ..options import Options as BaseOptions
from .outputs import Likelihood
from .prompt import Prompt


@dataclass(frozen=True)
class Question:
    """One of several questions over the context of a sample.

    Attributes
    ----------
    suffix
        What follows the context, as in `Prompt`.
    references, new_tokens, answer_prefix
        As in `Sample`.
    question
        The bare question inside the suffix, as in `Prompt`.
    answer
        What the next question finds as the answer to this one, if turns follow each other (`Sample.turns`).
    joint
        What stands between the answer before and this question where no chat template says it.
    metadata
        JSON-ready facts of this question; the record's answer has them, and `Task.score` sees them with the sample's.
    """

    suffix: str
    references: tuple[str, ...]
    new_tokens: int
    question: str = ""
    answer_prefix: str = ""
    answer: str = ""
    joint: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One question, or several over one context.

    Attributes
    ----------
    id
        Stable within the task: the same seed, tokenizer and options give the same id for the same text.
    prompt
        The raw prompt, before any chat template.
    references
        Accepted answers.
    new_tokens
        Most tokens of the answer.
    chat
        False where the official protocol forbids the chat template (LongBench's few-shot and code sets).
    answer_prefix
        Text put after the assistant's header, to begin the answer with.
    stop
        Strings whose last token ends the answer.
    min_new_tokens
        Fewest tokens of the answer.
    until
        Strings that end the answer: its text is cut before the first of them, and every token whose text
        holds one ends it at once.
    choices
        If not empty the answer is not generated: the method is asked how likely each of these texts is
        right after the prompt, and `Task.score_choices` scores that. `new_tokens` is then not used.
    metadata
        JSON-ready facts: length, depth, classes; copied into the record.
    shares
        What makes samples dependent on one another, by name: those of one name are resampled together. Default: the
        context, for questions about one text are no independent samples.
    questions
        If not empty, what is asked about `prompt` up to the end of its context: each is answered and scored by itself,
        and the sample's scores are the means. The prompt has no suffix then; `references` and `new_tokens` are those
        of all together (`several` makes such a sample).
    turns
        How questions follow each other: ``"apart"`` (each alone after the context), ``"reference"`` (after those
        before it and `Question.answer` of each) or ``"own"`` (after those before it and what was answered).
    """

    id: str
    prompt: Prompt
    references: tuple[str, ...]
    new_tokens: int
    chat: bool = True
    answer_prefix: str = ""
    stop: tuple[str, ...] = ()
    min_new_tokens: int = 0
    until: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    shares: str = ""
    questions: tuple[Question, ...] = ()
    turns: str = "apart"

    @classmethod
    def several(
        cls,
        id: str,
        prefix: str,
        context: str,
        questions: Sequence[Question],
        *,
        turns: str = "apart",
        **more: Any,
    ) -> Sample:
        """A sample with several questions over one context; `more` are fields of `Sample`.

        Raises
        ------
        ValueError
            If there is no question, or no such way of turns.
        """
        if not questions or turns not in TURNS:
            raise ValueError(f"sample {id}: {len(questions)} questions, turns {turns!r}")
        references = tuple(dict.fromkeys(r for q in questions for r in q.references))
        most = max(q.new_tokens for q in questions)
        prompt = Prompt(prefix, context, "")
        return cls(id, prompt, references, most, questions=tuple(questions), turns=turns, **more)

    def asked(self, number: int) -> Sample:
        """The question of that number (from 0) as a sample of its own, as `Task.score` sees it."""
        q = self.questions[number]
        return replace(
            self,
            id=f"{self.id}#{number + 1}",
            prompt=replace(self.prompt, suffix=q.suffix, question=q.question),
            references=q.references,
            new_tokens=q.new_tokens,
            answer_prefix=q.answer_prefix or self.answer_prefix,
            metadata={**self.metadata, **q.metadata},
            questions=(),
        )


TURNS = ("apart", "reference", "own")
"""Ways in which the questions of a sample follow each other (`Sample.turns`)."""


@dataclass(frozen=True)
class TaskEnvironment:
    """What a task may look at to make its samples: never the model's weights.

    Attributes
    ----------
    tokenizer
        The model's tokenizer.
    context_length
        The model's window, in tokens (after ``--context-length``).
    count
        Tokens of a prompt as the model will read it: template, special tokens and answer prefix included.
        Called as ``count(prompt, chat, answer_prefix)``.
    seed
        Everything random in a task comes from it.
    data_dir
        The folder of ``--data-dir``, if given.
    offline
        If true, nothing may be fetched.
    limit
        At most this many samples will be taken; making more is wasted work, not an error.
    chat
        Whether prompts go through a chat template, where a sample does not forbid it.
    notify
        Told, in a line, what the user should know of the data: rows that differ in number from the official
        ones. None: nobody listens.
    trust_task_code
        Whether code that comes with a task's own files may run (``--trust-task-code``).
    """

    tokenizer: Any
    context_length: int
    count: Callable[[Prompt, bool, str], int]
    seed: int = 42
    data_dir: Path | None = None
    offline: bool = False
    limit: int | None = None
    notify: Callable[[str], None] | None = None
    chat: bool = True
    trust_task_code: bool = False


@dataclass(frozen=True)
class ScoredSample:
    """A finished sample as `Task.aggregate` sees it: scores are 0..1, `metadata` is the sample's own.

    `answers`: of a sample with several questions the same for each, in order.
    """

    id: str
    scores: Mapping[str, float]
    metadata: Mapping[str, Any]
    answers: tuple[ScoredSample, ...] = ()


class Task(ABC):
    """Something to measure methods on. Subclass it and name it in an entry point.

    One class may serve a family: with `variants` ``("trec", "lcc")`` the entry point ``longbench`` offers
    the tasks ``longbench/trec`` and ``longbench/lcc``, and the name ``longbench`` alone stands for `group`.
    With `any_variant` it offers ``family:NAME`` for every name that `members` accepts; the tasks that stands
    for are called ``family/MEMBER``.

    Class attributes
    ----------------
    Options
        Set with ``--set NAME.option=value``.
    version, changelog
        The version changes whenever a prompt or a score may change; the changelog says why, newest last.
    metrics
        Names of the scores, the main one first.
    variants, group
        Members of the family, and those that the bare name stands for.
    any_variant
        What NAME may be in ``family:NAME``, in a few words; empty: the family has no such names.
    answer_fields
        Names under which a line of ``harness score`` may hold the accepted answers, in order of preference.
    bare_names
        Whether a line of ``harness score`` may name a variant alone; False where another benchmark has these names.
    preset
        Name and version of the prompt protocol, recorded with each run.
    truncation
        The rule by which the official code cuts a prompt that is too long: one of ``--truncate``, or a name of the
        task's own, which `shorten` then carries out.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: first version",)
    metrics: ClassVar[tuple[str, ...]] = ("score",)
    variants: ClassVar[tuple[str, ...]] = ()
    group: ClassVar[tuple[str, ...]] = ()
    any_variant: ClassVar[str] = ""
    answer_fields: ClassVar[tuple[str, ...]] = ("answers",)
    bare_names: ClassVar[bool] = True
    preset: str = "default@1"
    truncation: ClassVar[str] = "middle"

    def __init__(self, options: BaseOptions, name: str, variant: str | None = None) -> None:
        self.options = options
        self.name = name
        self.variant = variant

    @classmethod
    def members(cls, name: str, options: Any) -> tuple[str, ...]:
        """The variants that ``family:NAME`` stands for, if there is `any_variant`: itself, or those of a group.

        Raises UsageError for a name that is unknown, with the nearest match. Reads no data.
        """
        raise NotImplementedError(f"{cls.__name__} offers any variant but does not say what it stands for")

    def facts(self) -> dict[str, Any]:
        """JSON-ready facts that decide what is asked and how it is scored, beyond version and options.

        Versions of foreign code, hashes of configurations. Part of the run's hash; asked after `samples`.
        """
        return {}

    def recall(self, facts: Mapping[str, Any]) -> None:  # noqa: B027
        """Take over the `facts` an earlier run recorded, so that its records can be summed up without data."""

    def max_context(self) -> int | None:
        """Prompt tokens the literature truncates this task to for context-extended methods; None: no habit."""
        return None

    def shorten(self, prompt: Prompt, limit: int, tokenizer: Any) -> Prompt:
        """`prompt`, which is longer, cut to `limit` tokens by the task's own `truncation`.

        Raises UsageError if it cannot be.
        """
        raise NotImplementedError(f"task {self.name} names a rule of truncation but does not carry it out")

    def follow_up(self, sample: Sample, answer: str) -> Sample | None:
        """What the official code asks after `answer`, in a call of its own; None: that was the answer.

        The record has the prompt, truncation and compression of the first call, the last answer, and the cost of both.
        """
        return None

    @abstractmethod
    def samples(self, env: TaskEnvironment) -> Iterable[Sample]:
        """Yield samples, always the same and in the same order for the same (seed, tokenizer, options)."""

    @abstractmethod
    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """Score one answer: a value 0..1 for each metric."""

    def score_choices(self, sample: Sample, likelihoods: Sequence[Likelihood]) -> dict[str, float]:
        """Score the likelihoods of a sample's `choices`, in their order: a value 0..1 for each metric."""
        raise NotImplementedError(f"task {self.name} gives choices but does not score them")

    def aggregate(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """The task's scores over its finished samples: the mean of each metric. Values are 0..1."""
        return {
            metric: sum(s.scores[metric] for s in scored) / len(scored) for metric in self.metrics if scored
        }

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """Further named means worth a row of their own (a length, a depth, a bucket); may be empty."""
        return {}

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """Averages over the family from the main score of each variant that was run; may be empty."""
        return {}

    @classmethod
    def verdict(cls, parts: Mapping[str, Mapping[str, float]]) -> str:
        """One line that follows from the family's `averages` over each part of its breakdowns; may be empty.

        `parts` holds ``averages`` of each part (a length, a bucket) that every variant of the run has.
        """
        return ""

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        """A sample good enough for `score`, from a line of ``harness score``: needs one of `answer_fields`.

        Raises UsageError for what is no list of texts, and for a blank text, which stands in every prediction.
        """
        given = next((name for name in cls.answer_fields if name in row), cls.answer_fields[0])
        answers = row.get(given)
        if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
            raise UsageError(f"field {given!r} must be a list of strings")
        if not answers or not all(a.strip() for a in answers):
            raise UsageError(f"field {given!r} must hold an answer, and no empty one")
        meta = {"all_classes": row.get("all_classes")}
        return Sample(str(row.get("id", "")), Prompt("", "", ""), tuple(answers), 1, metadata=meta)
