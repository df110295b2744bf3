"""What a suite looks like before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..console.safe_text import Visible
from ..console.suite_progress import SuiteDisplay, duration
from ..suites.planned import PlannedRun, SuitePlan, estimated

__all__ = ["SuiteDisplay", "duration", "plan_facts", "plan_table"]


def plan_table(plan: SuitePlan) -> RenderableType:
    """Every run with its samples, tokens, state and estimate, and below how that was estimated.

    Labels and titles are a file's: none of them can steer a terminal.
    """
    suite = plan.spelled.suite
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("row", overflow="fold")
    for head in ("samples", "tokens each", "tokens", "done", "estimate"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    several = len(plan.spelled.suites) > 1
    for row, runs in plan.rows:
        for run in runs:
            label = f"{row.label} on {row.model}" if several else row.label
            label += f", seed {run.settings.seed}" if len(runs) > 1 else ""
            table.add_row(escape(label), *map(escape, _cells(run)))
    quick = " (quick)" if plan.spelled.quick else ""
    title = Text(f"{suite.name}{quick} on {', '.join(plan.spelled.suites)}: {suite.title}", style="bold")
    return Visible(Group(title, table, *_fits(plan), *_notes(plan)))


def plan_facts(plan: SuitePlan) -> dict[str, Any]:
    """The plan as JSON-ready facts: `seconds` are estimates, None where there is none."""
    names = ("state", "why", "samples", "tokens", "done", "seconds", "same_as")
    return {
        "name": plan.spelled.suite.name,
        "quick": plan.spelled.quick,
        "models": list(plan.spelled.suites),
        "runs": [
            {
                "row": row.label,
                "model": row.model,
                "seed": run.settings.seed,
                **{name: getattr(run, name) for name in names},
            }
            for row, runs in plan.rows
            for run in runs
        ],
        "fits": [
            {"name": name, "model": model, "state": fit.state, "why": fit.why}
            for (model, name), fit in plan.fits.items()
        ],
    }


def _cells(run: PlannedRun) -> list[str]:
    if not run.samples:
        return ["–", "–", "–", "–", "–", f"{run.state}: {run.why}"]
    state = run.state if run.same_as is None else f"the same run as {run.same_as}"
    return [
        f"{run.samples:,}",
        f"{run.tokens / run.samples:,.0f}",
        f"{run.tokens:,}",
        f"{run.done:,}",
        duration(run.seconds),
        state,
    ]


def _fits(plan: SuitePlan) -> Iterator[RenderableType]:
    for (model, name), fit in plan.fits.items():
        where = "" if fit.folder is None else f" in {fit.folder}"
        yield Text(f"fit {name} on {model}: {fit.why or fit.state + where}")


def _notes(plan: SuitePlan) -> Iterator[RenderableType]:
    known = estimated(run.seconds for _, runs in plan.rows for run in runs)
    if known is not None:
        fits = any(fit.state in ("new", "begun") for fit in plan.fits.values())
        yield Text(f"in all about {duration(known)}" + (", without the time of the fits" if fits else ""))
    for name, speed in plan.speeds.items():
        yield Text(
            f"estimated from {speed} ({name}, measured here by a short probe), every prompt read as often as its "
            "method reads it, every answer as long as it may be; what several rows share is counted once",
            style="dim",
        )
