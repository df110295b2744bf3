"""What a suite will do and about how long it takes: shown before it starts, and all that ``--dry-run`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..contracts.outputs import Decoding
from ..errors import NotInstalled, UsageError
from ..evaluation.plan import RunPlan, plan_run
from ..evaluation.settings import RunSettings
from ..inference import throughput
from ..models import adapters
from ..models.shared import Note
from .fits import missing_adapter, planned_fits
from .matrix import Row, Spelled, with_adapter
from .planned import PlannedFit, PlannedRun, State, SuitePlan


def plan_suite(
    spelled: Spelled,
    out: Path,
    note: Note,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    estimate: bool = True,
) -> SuitePlan:
    """Plan every run. One that cannot be run keeps its reason and does not stop the others.

    Parameters
    ----------
    note
        Told of what takes more than a moment.
    progress
        Called with the rows planned and all rows.

    Raises
    ------
    UsageError
        If nothing can be run: the reason of the first.
    """
    plan = SuitePlan(spelled, [], {})
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:  # rows lack the same data
            told.add(line)
            note(line)

    seen: dict[str, str] = {}
    prepared: set[tuple[str, str]] = set()
    for number, row in enumerate(spelled.rows):
        progress(number, len(spelled.rows))
        suite = spelled.suites[row.model]
        fit = None if row.fit is None else planned_fits(plan, suite, row, row.fit, out)
        runs = [_run(plan, row, settings, fit, once, seen, prepared, estimate) for settings in row.runs]
        plan.rows.append((row, runs))
    reasons = [(run.state, run.why) for _, runs in plan.rows for run in runs]
    if all(state in ("unavailable", "refused") for state, _ in reasons):
        raise UsageError(f"{spelled.suite.name}: nothing can be run: {reasons[0][1]}")
    return plan


def _run(
    plan: SuitePlan,
    row: Row,
    settings: RunSettings,
    fit: PlannedFit | None,
    note: Note,
    seen: dict[str, str],
    prepared: set[tuple[str, str]],
    estimate: bool,
) -> PlannedRun:
    if fit is not None and fit.state in ("unavailable", "refused"):
        return PlannedRun(settings, fit.state, fit.why)
    if fit is not None:
        made = fit.folder is not None and (fit.folder / adapters.CARD).is_file()
        settings = with_adapter(settings, fit.folder if made and fit.folder else Path(adapters.NO_ADAPTER))
        waits = not made
    else:
        waits = False
        if missing := missing_adapter(settings.adapter):
            return PlannedRun(settings, "unavailable", missing)
    try:
        run = plan_run(settings, note, plan.models, plan.samples)
    except NotInstalled as error:
        return PlannedRun(settings, "unavailable", str(error))
    except UsageError as error:
        return PlannedRun(settings, "refused", str(error))
    folder = None if waits else run.folder.path
    finished = set() if waits else _finished(run)
    pending = [p for p in run.samples if p.key not in finished]
    state: State = "waits for a fit" if waits else "begun" if finished and pending else "new"
    if not pending:
        state = "finished"
    key = f"{run.folder.path.name} {row.fit if waits else ''}"
    same_as = seen.setdefault(key, row.id)
    same = None if same_as == row.id else same_as
    seconds = None
    if estimate and not run.method.remote:
        seconds = 0.0 if same or not pending else _seconds(plan, run, pending, prepared)
    tokens = sum(p.tokens for p in run.samples)
    done = len(run.samples) - len(pending)
    return PlannedRun(settings, state, "", folder, len(run.samples), done, tokens, seconds, same)


def _finished(run: RunPlan) -> set[tuple[str, str]]:
    """Samples that are there already; the folder is only looked at."""
    try:
        if (run.folder.read_run() or {}).get("status") == "failed":
            return set()
        return {r.key for r in run.folder.records() if r.finished}
    except UsageError:  # damaged: the run itself will say so
        return set()


def _seconds(plan: SuitePlan, run: RunPlan, pending: Sequence[Any], prepared: set[tuple[str, str]]) -> float:
    """Reading as often as the method does, answers at full length, and what it prepares, counted once."""
    found = plan.speeds.get(run.model.name)
    if found is None:
        found = plan.speeds[run.model.name] = throughput.probe(run.model)
    groups: dict[Decoding, list[int]] = {}
    for p in pending:
        groups.setdefault(p.decoding, []).append(p.tokens)
    read = written = 0
    for decoding, tokens in groups.items():
        read += sum(run.method.tokens_to_process(n, decoding) for n in tokens)
        written += decoding.max_new_tokens * len(tokens)
        for what, cost in run.method.prepares(tokens, decoding).items():
            if (run.model.name, what) not in prepared:
                prepared.add((run.model.name, what))
                read += cost
    return found.seconds(read, written)
