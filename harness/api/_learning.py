"""`fit`, `synth` and `check` from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts.method import Method
from ..documents import Cell, Column, Document, Row, Table
from ..errors import UsageError, unknown_name
from ._given import ModelLike, hushed, named_method, named_model
from ._shown import Shown

if TYPE_CHECKING:
    from ..models.model import LanguageModel
    from ..testing import CheckResult
    from ..training.run import FitResult

DEFAULT = "smollm2"


def fit(
    method: str | type[Method] | Method,
    *,
    out: str | Path,
    model: ModelLike = DEFAULT,
    tokenizer: Any = None,
    progress: bool | None = None,
    **settings: Any,
) -> FitResult:
    """Train or calibrate a method: ``harness fit``; `settings` are its flags and the method's options.

    Parameters
    ----------
    method
        A name, a class or an instance with its options.
    out
        Folder of the adapter; a fit resumes there.
    model, tokenizer
        As `harness.run` takes them; a model that is loaded stays as it is.
    progress
        As for `harness.run`.

    Returns
    -------
    FitResult
        ``folder`` is the adapter for ``harness.run(adapter=...)``; ``card`` says what it was trained on.

    Raises
    ------
    UsageError
        For an argument nobody has, and whatever else cannot be carried out.
    """
    from ..console.progress import FitDisplay
    from ..console.quiet import quietly
    from ..training.plan import plan_fit
    from ..training.run import execute
    from ..training.settings import FitSettings

    name, own = named_method(method)
    reserved = {"method", "options", "fit_options", "out", "model"}
    known = {f.name for f in dataclasses.fields(FitSettings)} - reserved
    whole = {key: value for key, value in settings.items() if key in known}
    rest = {key: value for key, value in settings.items() if key not in known}
    parts = _options_of(name, {**own, **rest}, f"argument of fit({name!r})", {*known, "model", "tokenizer"})
    if isinstance(data := whole.get("data"), str | Path):
        whole["data"] = (str(data),)
    elif data is not None:
        whole["data"] = tuple(map(str, data))
    if whole.get("adapter") is not None:
        whole["adapter"] = Path(whole["adapter"])
    called, load = named_model(model, tokenizer, whole, "fit")
    wanted = FitSettings(method=name, out=Path(out), model=called, **parts, **whole)
    with quietly(hushed(progress)), FitDisplay() as display:
        return execute(plan_fit(wanted, display.note, load), display)


def synth(
    recipe: str,
    *,
    out: str | Path,
    model: ModelLike = DEFAULT,
    tokenizer: Any = None,
    progress: bool | None = None,
    **settings: Any,
) -> Mapping[str, Any]:
    """Generate training data: ``harness synth``; `settings` are its flags, ``options`` those of the recipe.

    `model` and `tokenizer` are as `harness.run` takes them.

    Returns
    -------
    dict
        The data card.
    """
    from ..console.progress import SynthDisplay
    from ..console.quiet import quietly
    from ..synthesis.plan import plan_synthesis
    from ..synthesis.run import execute
    from ..synthesis.settings import SynthSettings

    known = {f.name for f in dataclasses.fields(SynthSettings)} - {"recipe", "out", "model"}
    for name in settings:
        if name not in known:
            raise unknown_name("argument of synth()", name, {*known, "model", "tokenizer"})
    paths = ("pool", "nouns")
    given = {k: Path(v) if k in paths and v is not None else v for k, v in settings.items()}
    whole: dict[str, Any] = {"count": None, **given}
    called, load = named_model(model, tokenizer, whole, "synth")
    wanted = SynthSettings(recipe=recipe, out=Path(out), model=called, **whole)
    with quietly(hushed(progress)), SynthDisplay() as display:
        return execute(plan_synthesis(wanted, load), display)


def check(
    method: str | type[Method] | Method | None = None,
    *,
    task: str | None = None,
    only: Sequence[str] = (),
    model: ModelLike | None = None,
    tokenizer: Any = None,
    adapter: str | Path | None = None,
    budget: int | str | None = None,
    data_dir: str | Path | None = None,
    task_settings: Mapping[str, Mapping[str, Any]] | None = None,
    **options: Any,
) -> Shown:
    """Try whether a method, or a task, keeps to its contract: ``harness check``.

    Parameters
    ----------
    method, task
        One of both: a method's name, class or instance, or a task's name.
    only
        Names of checks; all if none is named.
    model, tokenizer
        As `harness.run` takes them; a random model made on the spot if nothing is said. A model that is loaded stays
        as it is.
    adapter, budget
        Of a method, as the flags.
    data_dir, task_settings
        Of a task, as `harness.run` takes them.
    **options
        Options of the method, and of how it learns.

    Raises
    ------
    UsageError
        For an argument nobody has, and whatever else cannot be carried out.
    """
    if (method is None) == (task is None):
        raise UsageError("check(): name one method, or one task with task=...")
    if tokenizer is not None and model is None:
        raise UsageError("check(tokenizer=...) belongs to a loaded model: model=...")
    makes = None if model is None else _makes(model, tokenizer)
    if method is None:
        if options or adapter is not None or budget is not None:
            named = min(
                [*options, *(["adapter"] * (adapter is not None)), *(["budget"] * (budget is not None))]
            )
            raise UsageError(f"check({named}=...) is a method's; options of a task are task_settings={{...}}")
        results = _of_task(str(task), only, makes, data_dir, task_settings or {})
    else:
        if data_dir is not None or task_settings is not None:
            raise UsageError(
                "check(): data_dir and task_settings are a task's; a method's options are arguments"
            )
        if adapter is not None and model is None:
            raise UsageError(
                "check(adapter=...) belongs to the model it was trained on: name that with model=..."
            )
        results = _of_method(method, only, makes, adapter, budget, options)
    bad = sum(not r.ok for r in results)
    title = f"{len(results)} checks, {bad} failed"
    return Shown([Document("check", title, [_table(results, title)])], title)


def _options_of(method: str, given: Mapping[str, Any], what: str, known: set[str]) -> dict[str, Any]:
    """Arguments given to whom they belong: ``options`` and ``fit_options``. Raises UsageError for a stranger."""
    from .. import registry

    cls = registry.method(method).cls
    parts: dict[str, Any] = {"options": {}, "fit_options": {}}
    for key, value in given.items():
        if key in cls.FitOptions.model_fields:
            parts["fit_options"][key] = value
        elif key in cls.Options.model_fields:
            parts["options"][key] = value
        else:
            choices = {*known, *cls.FitOptions.model_fields, *cls.Options.model_fields}
            raise unknown_name(what, key, choices)
    return parts


def _makes(model: ModelLike, tokenizer: Any) -> Callable[[], LanguageModel]:
    """Makes the model anew for each check. One that cannot be had is refused here."""
    called, load = named_model(model, tokenizer, {}, "check")
    if isinstance(model, str | Path):
        load(called)
        return lambda: load(called)
    return lambda: named_model(model, tokenizer, {}, "check")[1](called)


def _of_method(
    method: str | type[Method] | Method,
    only: Sequence[str],
    model: Callable[[], LanguageModel] | None,
    adapter: str | Path | None,
    budget: int | str | None,
    options: Mapping[str, Any],
) -> list[CheckResult]:
    from ..contracts.budget import Budget
    from ..testing.methods import method_suite

    if budget is not None:
        Budget.parse(budget)
    name, own = named_method(method)
    known = {"task", "only", "model", "tokenizer", "adapter", "budget"}
    parts = _options_of(name, {**own, **options}, f"argument of check({name!r})", known)
    suite = method_suite(
        name, **parts, model=model, adapter=None if adapter is None else Path(adapter), budget=budget
    )
    return [suite.result(each) for each in suite.select(tuple(only))]


def _of_task(
    task: str,
    only: Sequence[str],
    model: Callable[[], LanguageModel] | None,
    data_dir: str | Path | None,
    settings: Mapping[str, Mapping[str, Any]],
) -> list[CheckResult]:
    from ..testing.tasks import task_suite

    family = task.partition("/")[0]
    if strangers := set(settings) - {family}:
        raise UsageError(f"task_settings of {min(strangers)}: only options of {family} can be set here")
    folder = None if data_dir is None else Path(data_dir)
    suite = task_suite(task, settings.get(family), data_dir=folder, model=model)
    return [suite.result(each) for each in suite.select(tuple(only))]


def _table(results: Sequence[CheckResult], title: str) -> Table:
    columns = [
        Column("check", "check", kind="name"),
        Column("status", "", kind="text"),
        Column("what", "what it proves, or why not", kind="text"),
    ]
    rows = [
        Row(
            {
                "check": Cell(r.name),
                "status": Cell(r.status),
                "what": Cell(r.reason if r.reason and r.status != "ok" else r.proves),
            }
        )
        for r in results
    ]
    return Table("check", title, columns, rows)
