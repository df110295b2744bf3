"""The conformance suite of tasks: samples that stay the same, scores that are scores."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts.prompt import Prompt
from ..contracts.task import Sample, ScoredSample, Task
from ..errors import UsageError
from ..evaluation.collecting import writable
from ..evaluation.task_environment import task_environment
from ..options import Options, describe
from ._results import Check, CheckResult, Failed, NotApplicable, Suite

if TYPE_CHECKING:
    from ..models.model import LanguageModel

LIMIT = 8
"""Samples looked at."""

ANSWERS = (
    "",
    "nothing of the kind",
    "12345",
    "Ünïcödé 北京 \N{SLIGHTLY SMILING FACE}\n\n1. yes",
    "no " * 500,
)
"""What models answer when they are wrong."""


@dataclass
class TaskTrial:
    """A task under test; `find` makes the model whose tokenizer decides how long prompts are."""

    name: str
    cls: type[Task]
    options: Options
    variant: str | None
    find: Callable[[], LanguageModel]
    data_dir: Path | None = None
    _model: list[LanguageModel] = field(default_factory=list)

    def task(self) -> Task:
        """The task, newly made."""
        return self.cls(self.options, self.name, self.variant)

    def take(self, limit: int = LIMIT) -> list[Sample]:
        """The first samples of a newly made task. Raises NotApplicable if its data is not to be had here."""
        if not self._model:
            self._model.append(self.find())
        env = task_environment(self._model[0], data_dir=self.data_dir, offline=True, limit=limit)
        found = []
        try:
            for sample in self.task().samples(env):
                found.append(sample)
                if len(found) == limit:
                    break
        except UsageError as error:
            raise NotApplicable(f"its samples are not to be had here: {error}") from None
        if not found:
            raise Failed("it has no samples; yield at least one")
        return found

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples the other checks look at."""
        return self.take()


def contract(trial: TaskTrial) -> str:
    """The class says everything the contract asks for."""
    cls = trial.cls
    if not (cls.__doc__ or "").strip():
        raise Failed("the class has no docstring; its first line is what `harness list` shows")
    if not isinstance(cls.version, str) or not isinstance(cls.changelog, tuple) or not cls.changelog:
        raise Failed("version must be a str and changelog a tuple with an entry for each version")
    if not cls.changelog[-1].startswith(f"{cls.version}:"):
        raise Failed(
            f"version is {cls.version!r}, but the changelog ends with {cls.changelog[-1]!r}; they move together"
        )
    if not cls.metrics or not all(isinstance(metric, str) for metric in cls.metrics):
        raise Failed(f"metrics is {cls.metrics!r}; name at least one score, the main one first")
    if strangers := set(cls.group) - set(cls.variants):
        raise Failed(f"group names {sorted(strangers)}, which are no variants")
    if silent := [row["name"] for row in describe(cls.Options) if not row["description"]]:
        raise Failed(f"option {silent[0]!r} has no description; give it one with its unit")
    return f"version {cls.version}; {', '.join(cls.metrics)}"


def samples(trial: TaskTrial) -> str:
    """Each sample can be asked, scored and written down."""
    for sample in trial.samples:
        what = f"sample {getattr(sample, 'id', sample)!r}"
        if not isinstance(sample, Sample) or not isinstance(sample.prompt, Prompt):
            raise Failed(f"{what} is no harness.Sample with a harness.Prompt; yield those")
        if not isinstance(sample.id, str) or not sample.id:
            raise Failed(f"{what}: an id must be text, and not empty")
        if not sample.prompt.text.strip():
            raise Failed(f"{what}: its prompt is empty")
        if not sample.prompt.context.strip():
            raise Failed(
                f"{what}: its context is empty; put the long text there, so that methods know what to compress"
            )
        if type(sample.new_tokens) is not int or sample.new_tokens < 1:
            raise Failed(f"{what}: new_tokens is {sample.new_tokens!r}; say how long an answer may be")
        if not isinstance(sample.references, tuple) or not all(isinstance(r, str) for r in sample.references):
            raise Failed(f"{what}: references must be a tuple of text")
        try:
            writable([sample.prompt.text, sample.references, sample.metadata])
        except (TypeError, ValueError) as error:
            raise Failed(f"{what}: its metadata or text cannot be written as JSON ({error})") from None
    return f"{len(trial.samples)} samples"


def ids(trial: TaskTrial) -> str:
    """No id is given twice."""
    found = [sample.id for sample in trial.samples]
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise Failed(f"the id {twice[0]!r} is given twice; number the samples, or name what makes each one")
    return ""


def deterministic(trial: TaskTrial) -> str:
    """The same seed gives the same samples, whatever else is drawn in the process."""
    state = random.getstate()
    try:
        random.seed(12345)
        again = trial.take()
    finally:
        random.setstate(state)
    for one, other in zip(trial.samples, again, strict=True):
        if asdict(one) != asdict(other):
            raise Failed(
                f"sample {one.id!r} is another one the second time; draw from random.Random(env.seed), and go "
                "through sets and folders in sorted order"
            )
    return ""


def limit(trial: TaskTrial) -> str:
    """Asking for fewer samples gives the first of them."""
    few = max(1, len(trial.samples) // 2)
    for one, other in zip(trial.samples, trial.take(few)):
        if asdict(one) != asdict(other):
            raise Failed(
                f"with --limit {few} sample {one.id!r} is {other.id!r} or has another text; let env.limit stop the "
                "making of samples, not decide what they are"
            )
    return ""


def _asked(trial: TaskTrial) -> list[Sample]:
    """The samples as they are scored: of one with several questions each by itself."""
    return [one for s in trial.samples for one in ([s.asked(n) for n in range(len(s.questions))] or [s])]


def scores(trial: TaskTrial) -> str:
    """Every answer has every score, each 0 to 1, the same each time."""
    task = trial.task()
    for sample in _asked(trial):
        for answer in (*ANSWERS, *sample.references):
            _scored(task, sample, answer)
    return ", ".join(trial.cls.metrics)


def _scored(task: Task, sample: Sample, answer: str) -> dict[str, float]:
    found = task.score(sample, answer)
    what = f"score of {answer[:30]!r}"
    if not isinstance(found, dict) or not set(task.metrics) <= set(found):
        raise Failed(f"{what} is {found!r}; give a dict with {', '.join(task.metrics)}")
    for metric, value in found.items():
        number = isinstance(value, int | float) and math.isfinite(value)
        if not number or not -1e-9 <= value <= 1 + 1e-9:
            raise Failed(f"{what}: {metric} is {value!r}; scores lie between 0 and 1")
    if task.score(sample, answer) != found:
        raise Failed(
            f"{what} is another one the second time; a score must follow from sample and answer alone"
        )
    return found


def right_answers(trial: TaskTrial) -> str:
    """A reference, given as the answer, scores more than silence."""
    task = trial.task()
    main = trial.cls.metrics[0]
    asked = [sample for sample in _asked(trial) if sample.references]
    if not asked:
        raise NotApplicable("its samples have no references")
    for sample in asked:
        best = max(
            _scored(task, sample, text)[main] for text in (*sample.references, " ".join(sample.references))
        )
        if best <= _scored(task, sample, "")[main]:
            raise Failed(
                f"sample {sample.id!r}: its own reference scores {best}, no more than an empty answer; is the "
                "comparison the right way round?"
            )
    return ""


def aggregate(trial: TaskTrial) -> str:
    """Averages lie between 0 and 1, and do not depend on the order of the samples."""
    task = trial.task()
    rows = [
        ScoredSample(s.id, _scored(task, s, (*s.references, "")[0] if i % 2 else ""), s.metadata)
        for i, s in enumerate(trial.samples)
    ]
    for some in (rows, rows[:1]):
        one, other = _averages(task, some), _averages(task, some[::-1])
        if one.keys() != other.keys() or any(not math.isclose(one[k], other[k], abs_tol=1e-9) for k in one):
            raise Failed(
                "aggregate or breakdown gives other values in another order; let it depend on the samples"
            )
        if lacking := [metric for metric in task.metrics if metric not in one]:
            raise Failed(f"aggregate lacks {', '.join(lacking)}; give a mean for each metric")
    return ""


def _averages(task: Task, rows: Sequence[ScoredSample]) -> dict[str, float]:
    found = {**task.aggregate(rows), **{f"part {k}": v for k, v in task.breakdown(rows).items()}}
    for name, value in found.items():
        if not isinstance(value, int | float) or not -1e-9 <= value <= 1 + 1e-9:
            raise Failed(f"the average {name!r} is {value!r}; averages lie between 0 and 1")
    return found


READY = ("contract", "samples")

TASK_CHECKS: tuple[Check[TaskTrial], ...] = (
    Check("contract", "the class says what the contract asks for", contract),
    Check("samples", "each sample can be asked, scored and written down", samples, ("contract",)),
    Check("ids", "no id is given twice", ids, READY),
    Check("deterministic", "the same seed gives the same samples", deterministic, READY),
    Check("limit", "--limit takes the first samples and changes none", limit, (*READY, "deterministic")),
    Check("scores", "every answer gets every score, each 0 to 1", scores, READY),
    Check("right-answers", "a reference scores more than silence", right_answers, (*READY, "scores")),
    Check("aggregate", "averages lie between 0 and 1 in any order", aggregate, (*READY, "scores")),
)
"""Every check of a task, in the order in which they are run."""


def task_suite(
    task: str | type[Task],
    options: Mapping[str, Any] | None = None,
    *,
    data_dir: Path | None = None,
    model: Callable[[], LanguageModel] | None = None,
    checks: Sequence[Check[TaskTrial]] = TASK_CHECKS,
) -> Suite[TaskTrial]:
    """The checks of a task, ready to be run one by one; see `check_task` for the parameters."""
    from .. import registry
    from .tiny import tiny_model

    if isinstance(task, str):
        plugin, variant = registry.task_class(task)
        name, cls = task, plugin.cls
        variant = variant or next(iter(cls.group), None)
    else:
        cls, name, variant = task, registry.snake_case(task.__name__), next(iter(task.group), None)
    if variant is not None and "/" not in name:
        name = f"{name}/{variant}"
    parsed = cls.Options.parse(options or {}, f"task {name}")
    return Suite(checks, lambda: TaskTrial(name, cls, parsed, variant, model or tiny_model, data_dir))


def check_task(
    task: str | type[Task],
    options: Mapping[str, Any] | None = None,
    *,
    only: Sequence[str] = (),
    **more: Any,
) -> list[CheckResult]:
    """Look at a task's first samples and scores, check by check.

    Parameters
    ----------
    task
        A name that `harness list tasks` shows (of a family its first member is taken), or the class.
    options
        Its options, as strings or values.
    only
        Names of checks (see `TASK_CHECKS`); all if none is named.
    more
        ``data_dir``: the folder of its data. ``model``: a function that makes the model.

    Raises
    ------
    UsageError
        For an unknown task or check, or options it refuses.
    """
    suite = task_suite(task, options, **more)
    return [suite.result(name) for name in suite.select(only)]
