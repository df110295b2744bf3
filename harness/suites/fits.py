"""The fits that a suite's runs need."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..errors import UsageError
from ..evaluation.settings import RunSettings
from ..models import adapters
from ..models.model import LanguageModel
from ..training import build_mixture
from ..training.settings import FitSettings
from .matrix import FITTED, SHIPPED, Row, words
from .planned import PlannedFit
from .schema import Fit, Suite
from .settings import checked_settings

if TYPE_CHECKING:
    from .planned import SuitePlan


def missing_adapter(adapter: Path | None) -> str:
    """Why an adapter folder that a cell names cannot be had; empty if it can, or none is named."""
    if adapter is None or str(adapter) == adapters.NO_ADAPTER:
        return ""
    try:
        adapters.read_card(adapter)
    except UsageError as error:
        return str(error)
    return ""


def planned_fits(plan: SuitePlan, suite: Suite, row: Row, name: str, out: Path) -> PlannedFit:
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
        base = planned_fits(plan, suite, row, before, out)
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
        why = f"fit {name}: {error}{_remedy(suite, fit)}"
        return PlannedFit(name, settings, "unavailable", why, before)
    begun = (settings.out / "training").is_dir()
    return PlannedFit(name, settings, "begun" if begun else "new", base=before)


def _remedy(suite: Suite, fit: Fit) -> str:
    """How to name the files of a fit's data that are not there, where variables of the suite name them."""
    missing = [
        name
        for name, value in suite.vars.items()
        if any(spec == str(value) or spec.startswith(f"{value}:") for spec in fit.data)
        and not Path(str(value)).expanduser().exists()
    ]
    return f"; name yours with {' '.join(f'--var {name}=FILE' for name in missing)}" if missing else ""


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
