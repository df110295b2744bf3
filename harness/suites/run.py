"""A suite carried out: its fits, then its runs, each an ordinary run folder; what fails does not stop the others.

What came of it is written to ``<out>/suites/<name>-<model>-<hash>.json``: everything a report needs to find the
runs again, and nothing that is in them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from ..errors import HarnessError
from ..evaluation.plan import plan_run
from ..evaluation.runner import Watcher, execute
from ..training.plan import plan_fit
from ..training.run import FitView
from ..training.run import execute as execute_fit
from .matrix import Row, with_adapter
from .outcome import RowOutcome, SuiteOutcome, outcome_content, outcome_path, row_outcome, write_outcome
from .planned import PlannedFit, PlannedRun, SuitePlan


class SuiteView(Protocol):
    """Who is shown a suite."""

    def fit(self, name: str) -> AbstractContextManager[FitView]:
        """A view of one fit, for as long as it takes."""
        ...

    def run(self, row: Row, number: int, total: int) -> AbstractContextManager[Watcher]:
        """A view of one run, for as long as it takes."""
        ...

    def done(self, row: Row, outcome: RowOutcome, seconds: float) -> None:
        """A row has come to its end."""
        ...


def carry_out(plan: SuitePlan, out: Path, view: SuiteView) -> SuiteOutcome:
    """Fit what is missing, run what is missing, and write down where everything is.

    A fit or run that fails is recorded with its reason. Ctrl-C goes through, after what is there was written.
    """
    outcome = SuiteOutcome(outcome_path(plan, out), outcome_content(plan), [])
    fitted: dict[tuple[str, str], str] = {}
    made: dict[str, Path] = {}
    total = sum(len(runs) for _, runs in plan.rows)
    number = 0
    try:
        for key, fit in plan.fits.items():
            if fit.state in ("new", "begun"):
                plan.models.drop()
                if why := _fit(plan, key, fit, fitted, view):
                    fitted[key] = why
        for row, runs in plan.rows:
            began = time.perf_counter()
            came = row_outcome(row)
            outcome.rows.append(came)
            for run in runs:
                number += 1
                _run(plan, row, run, came, fitted, made, view, (number, total))
            view.done(row, came, time.perf_counter() - began)
    finally:
        write_outcome(outcome)
    return outcome


def _fit(
    plan: SuitePlan,
    key: tuple[str, str],
    fit: PlannedFit,
    failed: Mapping[tuple[str, str], str],
    view: SuiteView,
) -> str:
    """Carry out one fit; returns why it failed, or nothing."""
    assert fit.settings is not None
    if fit.base is not None and (why := failed.get((key[0], fit.base))):
        return why
    try:
        with view.fit(fit.name) as shown:
            execute_fit(plan_fit(fit.settings, shown.note), shown)
    except Exception as error:
        return f"fit {fit.name}: {_line(error)}"
    return ""


def _run(
    plan: SuitePlan,
    row: Row,
    run: PlannedRun,
    came: RowOutcome,
    fitted: Mapping[tuple[str, str], str],
    made: dict[str, Path],
    view: SuiteView,
    place: tuple[int, int],
) -> None:
    """Carry out one run of a row, unless it cannot be had or was carried out for another row already."""
    if run.state in ("unavailable", "refused"):
        if run.state == "refused" or came.status == "ok":
            came.status = "failed" if run.state == "refused" else "unavailable"
        came.why = came.why or run.why
        return
    settings = run.settings
    if row.fit is not None:
        fit = plan.fits[row.model, row.fit]
        if why := fitted.get((row.model, row.fit)):
            came.status, came.why = "failed", why
            return
        assert fit.folder is not None
        settings = with_adapter(settings, fit.folder)
    try:
        ready = plan_run(settings, None, plan.models)
        folder = ready.folder.path
        came.runs.append(str(folder))
        if folder.name not in made:
            with view.run(row, *place) as watcher:
                result = execute(ready, watcher)
            made[folder.name] = folder
            if result.failed:
                came.status = "failed"
                came.why = came.why or f"{result.failed} of {result.summary['total']['n']} samples failed"
    except Exception as error:
        came.status, came.why = "failed", came.why or _line(error)


def _line(error: Exception) -> str:
    words = " ".join(str(error).split())[:300]
    return words if isinstance(error, HarnessError) else f"{type(error).__name__}: {words}"
