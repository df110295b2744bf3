"""Any lm-eval task under a method: lm-eval's prompts, choices, filters and metrics, asked by the harness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Options, Sample, Task, TaskEnvironment, UsageError

from . import prompts
from .options import LmEvalOptions

if TYPE_CHECKING:
    from harness.contracts import Likelihood

    from .library import Loaded


class LmEval(Task):
    """Any task, group or tag of lm-eval (generation, log-likelihood, multiple choice; MMLU among them).

    Prompts, choices, filters and metrics are lm-eval's own, of the version that is installed. What lm-eval
    would hand a model as one string is split into a context, which a method may compress, and a question.
    """

    Options: ClassVar[type[Options]] = LmEvalOptions
    version = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: first version",)
    metrics: ClassVar[tuple[str, ...]] = ("acc",)
    any_variant: ClassVar[str] = "any task, group or tag of lm-eval (lm_eval ls tasks)"
    options: LmEvalOptions
    _loaded: Loaded | None = None

    @classmethod
    def members(cls, name: str, options: Any) -> tuple[str, ...]:
        from .library import members

        return members(name, options.include_path)

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """In lm-eval's order, with lm-eval's examples for the same seed.

        Raises
        ------
        Unavailable
            In one line, if the task or its data cannot be had, or is of a kind that cannot be asked here.
        """
        from .library import load
        from .trust import guarded

        loaded = load(str(self.variant), self.options, env)
        self._loaded, self.preset = loaded, f"lm_eval-{loaded.lm_eval}"
        self.metrics = loaded.metrics  # type: ignore[misc]  # what a task measures is known with its data
        return guarded(self.name, prompts.samples(loaded, self.options, env))

    def facts(self) -> dict[str, Any]:
        """Version of lm-eval, version and hash of the task, examples, and metrics that were left out."""
        return {} if self._loaded is None else self._loaded.facts

    def recall(self, facts: Mapping[str, Any]) -> None:
        """The metrics: which they are is else known only with the task's data."""
        if facts.get("metrics"):
            self.metrics = tuple(facts["metrics"])  # type: ignore[misc]

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        return self._known().score(sample.metadata["doc_id"], [prediction])

    def score_choices(self, sample: Sample, likelihoods: Sequence[Likelihood]) -> dict[str, float]:
        found = [(x.logprob, x.greedy) for x in likelihoods]
        return self._known().score(sample.metadata["doc_id"], found)

    def _known(self) -> Loaded:
        if self._loaded is None:
            raise UsageError(f"task {self.name}: an answer cannot be scored without the task's data")
        return self._loaded

    @classmethod
    def averages(cls, means: Mapping[str, float]) -> dict[str, float]:
        """The mean over the tasks that were run, each counting alike (lm-eval weighs some groups by size)."""
        return {"mean over tasks": sum(means.values()) / len(means)} if len(means) > 1 else {}

    @classmethod
    def sample_from_row(cls, variant: str | None, row: Mapping[str, Any]) -> Sample:
        raise UsageError("lm_eval tasks need lm-eval's own data to score; use harness run")
