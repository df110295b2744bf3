"""What a suite looks like before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..console.safe_text import Visible
from ..console.suite_progress import SuiteDisplay, duration
from ..documents import Cell, Column, Row, Table
from ..render import terminal
from ..suites.planned import PlannedRun, SuitePlan, estimated

__all__ = ["SuiteDisplay", "duration", "plan_facts", "plan_table"]


COLUMNS = (
    Column("row", "row", kind="name"),
    Column("samples", "samples"),
    Column("each", "tokens each"),
    Column("tokens", "tokens"),
    Column("done", "done"),
    Column("estimate", "estimate"),
    Column("state", "state", kind="text"),
)


def plan_table(plan: SuitePlan, width: int) -> RenderableType:
    """Every run with its samples, tokens, state and estimate, and below how that was estimated.

    Labels and titles are a file's: none of them can steer a terminal.
    """
    suite = plan.spelled.suite
    rows = []
    several = len(plan.spelled.suites) > 1
    for row, runs in plan.rows:
        for run in runs:
            label = f"{row.label} on {row.model}" if several else row.label
            label += f", seed {run.settings.seed}" if len(runs) > 1 else ""
            texts = [label, *_cells(run)]
            rows.append(Row({c.key: Cell(text=text) for c, text in zip(COLUMNS, texts)}))
    quick = " (quick)" if plan.spelled.quick else ""
    title = Text(f"{suite.name}{quick} on {', '.join(plan.spelled.suites)}: {suite.title}", style="bold")
    table = terminal.table(Table("plan", "", COLUMNS, rows), width, compact=True)
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
