"""What a suite will do and about how long it takes: shown before it starts, and all that ``--dry-run`` does."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import registry
from ._suite_settings import checked_settings
from .contracts.outputs import Decoding
from .errors import UsageError
from .evaluation.plan import RunPlan, plan_run
from .evaluation.settings import RunSettings
from .inference import throughput
from .matrix import FITTED, SHIPPED, Row, Spelled, with_adapter, words
from .models import adapters
from .models.model import LanguageModel
from .models.shared import Note, SharedModels
from .suite import Fit, Suite
from .training import build_mixture
from .training.settings import FitSettings

if TYPE_CHECKING:
    from .inference.throughput import Speed

State = Literal["new", "begun", "finished", "waits for a fit", "unavailable", "refused"]


@dataclass(frozen=True)
class PlannedFit:
    """A fit that cells wait for: its folder is named after all that it depends on, so it is run once."""

    name: str
    settings: FitSettings | None
    state: State
    why: str = ""
    base: str | None = None

    @property
    def folder(self) -> Path | None:
        return None if self.settings is None else self.settings.out


@dataclass(frozen=True)
class PlannedRun:
    """One run of a row before it starts.

    Attributes
    ----------
    folder
        None where it is not known yet: the adapter is still to be made.
    samples, done
        Samples asked for, and those that an earlier start has finished.
    tokens
        Prompt tokens of all samples after truncation.
    seconds
        Estimate for what is not done; None if nothing could be estimated.
    """

    settings: RunSettings
    state: State
    why: str = ""
    folder: Path | None = None
    samples: int = 0
    done: int = 0
    tokens: int = 0
    seconds: float | None = None
    same_as: str | None = None


@dataclass
class SuitePlan:
    """A suite with everything that could be checked checked."""

    spelled: Spelled
    rows: list[tuple[Row, list[PlannedRun]]]
    fits: dict[tuple[str, str], PlannedFit]
    speeds: dict[str, Speed] = field(default_factory=dict)
    models: SharedModels = field(default_factory=SharedModels)

    @property
    def seconds(self) -> float:
        """Of all runs that could be estimated."""
        return sum(run.seconds or 0.0 for _, runs in self.rows for run in runs)


def plan_suite(spelled: Spelled, out: Path, note: Note, *, estimate: bool = True) -> SuitePlan:
    """Plan every run. One that cannot be run keeps its reason and does not stop the others.

    Raises
    ------
    UsageError
        If nothing can be run: the reason of the first.
    """
    plan = SuitePlan(spelled, [], {})
    seen: dict[str, str] = {}
    prepared: set[tuple[str, str]] = set()
    for row in spelled.rows:
        note(f"planning {row.label} on {row.model}")
        suite = spelled.suites[row.model]
        fit = None if row.fit is None else _fits(plan, suite, row, row.fit, out)
        runs = [_run(plan, row, settings, fit, note, seen, prepared, estimate) for settings in row.runs]
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
        run = plan_run(settings, note, plan.models)
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
    if estimate:
        seconds = 0.0 if same or not pending else _seconds(plan, run, pending, prepared)
    tokens = sum(p.tokens for p in run.samples)
    done = len(run.samples) - len(pending)
    return PlannedRun(settings, state, "", folder, len(run.samples), done, tokens, seconds, same)


def missing_adapter(adapter: Path | None) -> str:
    """Why an adapter folder that a cell names cannot be had; empty if it can, or none is named."""
    if adapter is None or str(adapter) == adapters.NO_ADAPTER:
        return ""
    try:
        adapters.read_card(adapter)
    except UsageError as error:
        return str(error)
    return ""


def _finished(run: RunPlan) -> set[tuple[str, str]]:
    """Samples that are there already; the folder is only looked at."""
    try:
        if (run.folder.read_run() or {}).get("status") == "failed":
            return set()
        return {(r["task"], r["id"]) for r in run.folder.records() if r["status"] == "ok"}
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
        read += sum(run.method.reads(n, decoding) for n in tokens)
        written += decoding.max_new_tokens * len(tokens)
        for what, cost in run.method.prepares(tokens, decoding).items():
            if (run.model.name, what) not in prepared:
                prepared.add((run.model.name, what))
                read += cost
    return found.seconds(read, written)


def _fits(plan: SuitePlan, suite: Suite, row: Row, name: str, out: Path) -> PlannedFit:
    """The planned fit of that name on the row's model, and those it goes on from; each once."""
    key = (row.model, name)
    if key not in plan.fits:
        plan.fits[key] = _fit(plan, suite, row, name, out)
    return plan.fits[key]


def _fit(plan: SuitePlan, suite: Suite, row: Row, name: str, out: Path) -> PlannedFit:
    fit = suite.fits[name]
    before = fit.adapter.removeprefix(FITTED) if fit.adapter.startswith(FITTED) else None
    base = None
    if before is not None:
        if before not in suite.fits or before == name:
            return PlannedFit(name, None, "refused", f"fit {name}: no other fit named {before!r}")
        if in_circle(suite, name):
            return PlannedFit(
                name, None, "refused", f"fit {name}: goes on from {before!r}, which waits for it"
            )
        base = _fits(plan, suite, row, before, out)
        if base.state in ("unavailable", "refused"):
            return PlannedFit(name, None, base.state, base.why)
    run = row.runs[0]
    try:
        model = plan.models(run.model, **_loading(run))
        settings = fit_settings(fit, run, model, base, out)
    except (UsageError, ValueError) as error:
        return PlannedFit(name, None, "refused", f"fit {name}: {error}")
    if (settings.out / adapters.CARD).is_file():
        return PlannedFit(name, settings, "finished", base=before)
    try:
        registry.method(fit.method)
        if fit.data:
            build_mixture.check(fit.data)
    except UsageError as error:
        return PlannedFit(name, settings, "unavailable", f"fit {name}: {error}", before)
    begun = (settings.out / "training").is_dir()
    return PlannedFit(name, settings, "begun" if begun else "new", base=before)


def in_circle(suite: Suite, name: str) -> bool:
    """Whether a fit goes on from one that goes on from it, however many lie between."""
    seen: set[str] = set()
    while name not in seen:
        seen.add(name)
        adapter = suite.fits[name].adapter if name in suite.fits else ""
        if not adapter.startswith(FITTED):
            return False
        name = adapter.removeprefix(FITTED)
    return True


def fit_settings(
    fit: Fit, run: RunSettings, model: LanguageModel, base: PlannedFit | None, out: Path
) -> FitSettings:
    """A fit's settings, in a folder named after what it is asked to learn, on which model, from which adapter."""
    adapter = None if fit.adapter == SHIPPED else Path(fit.adapter)
    if base is not None:
        adapter = base.folder
    asked = {
        "method": fit.method,
        "data": tuple(fit.data),
        "options": words(fit.options),
        "fit_options": words(fit.fit_options),
        **checked_settings(fit.settings, FitSettings),
    }
    content = [
        asked,
        model.content_hash,
        fit.adapter if base is None else adapter and adapter.name,
        model.dtype,
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
    folder = re.sub(r"[^A-Za-z0-9._]+", "-", f"{fit.method}-{Path(run.model).name}")
    same = {n: getattr(run, n) for n in ("model", "dtype", "device", "offline", "trust_remote_code")}
    return FitSettings(**{**same, **asked, "adapter": adapter, "out": out / "fits" / f"{folder}-{digest}"})


def _loading(run: RunSettings) -> dict[str, Any]:
    """How `plan_run` loads a model: the words must be the same for the model to be shared."""
    names = ("context_length", "dtype", "device", "offline", "chat", "trust_remote_code")
    return {name: getattr(run, name) for name in names}


def estimated(seconds: Iterable[float | None]) -> float | None:
    """Their sum; None if none is known."""
    known = [s for s in seconds if s is not None]
    return sum(known) if known else None
