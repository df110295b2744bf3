"""Several runs in one command: each as `harness run` does it, and in one table what they came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..comparison import compare_all
from ..console.progress import RunDisplay, run_in_words
from ..documents import Document
from ..errors import UsageError
from ..evaluation.plan import RunPlan, plan_run
from ..evaluation.runner import RunResult, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..comparison.rows import Comparison
    from ..contracts.run import LoadedRun
    from ..evaluation.settings import RunSettings


@dataclass(frozen=True)
class Look:
    """A run that was carried out."""

    plan: RunPlan
    result: RunResult

    def to_json(self) -> dict[str, Any]:
        """What ``harness run --json`` prints of it."""
        facts = {"folder": str(self.result.folder.path), "ran": self.result.ran}
        return {**facts, "unavailable": self.plan.unavailable, **self.result.summary}


@dataclass(frozen=True)
class Several:
    """Runs that were carried out together, and each but the first held against it.

    `not_compared` says why a run could not be.
    """

    looks: Sequence[Look]
    runs: Sequence[LoadedRun]
    comparisons: Sequence[Comparison] = field(default=())
    not_compared: Sequence[str] = field(default=())

    @property
    def failed(self) -> int:
        """Samples that failed, in all."""
        return sum(look.result.failed for look in self.looks)

    def to_json(self) -> dict[str, Any]:
        """The runs, and the comparisons as ``harness compare --json`` prints them."""
        return {
            "runs": [look.to_json() for look in self.looks],
            "comparisons": [c.to_json() for c in self.comparisons],
            "not_compared": list(self.not_compared),
        }


def execute_shown(plan: RunPlan) -> RunResult:
    """Carry out a plan under a progress bar that says whose it is."""
    settings = plan.settings
    with RunDisplay(run_in_words(settings.method, settings.model, settings.tasks)) as display:
        return execute(plan, display)


def carry_out(wanted: Sequence[RunSettings], planned: Callable[[], None] = lambda: None) -> Several:
    """Run each, and hold all against the first.

    Every run is planned before the first begins, so what is wrong with the last is told at once; runs on one model
    share its weights.

    Parameters
    ----------
    planned
        Called once all are planned.

    Raises
    ------
    UsageError
        Whatever is wrong with one of them, with its method; two that are the same run.
    """
    from ..models.shared import SharedModels
    from ..results.loading import load_runs

    models = SharedModels()
    plans: dict[str, RunPlan] = {}
    with RunDisplay(
        run_in_words(", ".join(s.method for s in wanted), wanted[0].model, wanted[0].tasks)
    ) as display:
        for settings in wanted:
            try:
                plan = plan_run(settings, display.note, models)
            except UsageError as error:
                raise UsageError(f"{settings.method}: {error}") from error
            if plan.folder.path.name in plans:
                raise UsageError(f"{settings.method} is there twice with the same options: leave one out")
            plans[plan.folder.path.name] = plan
    planned()
    looks = [Look(plan, execute_shown(plan)) for plan in plans.values()]
    runs = load_runs([look.result.folder.path for look in looks])
    try:
        found, left_out = compare_all(runs[0], runs[1:])
    except UsageError as error:
        found, left_out = [], [str(error)]
    return Several(looks, runs, found, left_out)


def show(found: Several) -> None:
    """Scores and costs of all of them, the comparison, notes of each run, and what to type next."""
    from rich.text import Text

    from .. import render
    from ..comparison import reporting
    from ..console.failures import reasons
    from ..console.run_tables import notes

    makers = reporting.makers(reporting.installed(reporting.SHORT), None)
    documents = [d for maker in makers if not (d := maker.build(list(found.runs))).empty]
    if found.not_compared:
        documents.append(
            Document(
                "not-compared", "Not compared", notes=[f"not compared: {why}" for why in found.not_compared]
            )
        )
    display = RunDisplay()
    display.show(lambda width: render.as_terminal(documents, width, compact=True))
    said = [
        notes(look.result.summary, look.plan)[:-1] for look in found.looks
    ]  # the last explains another table
    every = [str(line) for line in said[0] if all(str(line) in map(str, lines) for lines in said)]
    for run, lines in zip(found.runs, said):
        for line in lines:
            if str(line) not in every:
                display.show(lambda width, line=line, run=run: Text.assemble(f"{run.label}: ", line))  # type: ignore[misc]
    for text in every:
        display.show(lambda width, text=text: Text(text, style="dim"))  # type: ignore[misc]
    for look, run in zip(found.looks, found.runs):
        if look.result.failed:
            why = "".join(f"{run.label}: {line}\n" for line in reasons(look.result.folder.records()))
            display.show(lambda width, why=why: Text(why.rstrip(), style="red"))  # type: ignore[misc]
    folders = " ".join(str(look.result.folder.path) for look in found.looks)
    display.show(lambda width: Text(f"next: harness compare {folders}"), copied=True)
