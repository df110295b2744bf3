"""`compare`, `report`, `fit`, `score`, `reproduce`, `synth` and `check` from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contracts.method import Method
from ..contracts.run import LoadedRun
from ..documents import Cell, Column, Document, Row, Table
from ..errors import UsageError, unknown_name
from ._given import hushed, named_method
from ._run import Run
from ._shown import Comparisons, Shown

if TYPE_CHECKING:
    from ..training.run import FitResult

RunLike = str | Path | Run | LoadedRun | Sequence[LoadedRun]
"""A run's folder, a folder of runs, a recorded baseline, or runs that are loaded or were just made."""


def compare(
    baseline: RunLike,
    *runs: RunLike,
    task: str | Sequence[str] = (),
    metric: str | None = None,
    baselines: str | Path = "recorded",
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparisons:
    """Hold finished runs against a baseline, sample by sample: ``harness compare``.

    Parameters
    ----------
    baseline, runs
        See `RunLike`; the baseline is a single run.
    task
        Only these tasks or families.
    metric, baselines, level, resamples, seed
        As the flags of ``harness compare``.

    Raises
    ------
    UsageError
        If there is nothing to compare.
    """
    from ..comparison import compare_all, headline
    from ..comparison.forest import forest
    from ..comparison.tables import comparison_tables
    from ..results.gathering import gathered

    if not runs:
        raise UsageError("compare(baseline, run, ...): name at least one run to hold against the baseline")
    a, others = gathered(_meant(baseline), [_meant(r) for r in runs], Path(baselines))
    wanted = (task,) if isinstance(task, str) else tuple(task)
    found, left_out = compare_all(a, others, level, resamples, seed, tasks=wanted, metric=metric)
    document = Document(
        "comparison",
        "Comparison",
        comparison_tables(found),
        [forest(found)],
        notes=[f"not compared: {reason}" for reason in left_out],
        answers=headline([a, *others], (found, left_out)).answers(),
    )
    title = f"Compared with {a.label}"
    return Comparisons([document], title, [a, *(c.run for c in found)], found, left_out)


def report(
    *runs: RunLike,
    kind: str | Sequence[str] = (),
    baseline: str | None = None,
    published: str | None = None,
    title: str | None = None,
) -> Shown:
    """Finished runs as answer, tables and figures: ``harness report``.

    Parameters
    ----------
    runs
        See `RunLike`; default: the folder ``runs``.
    kind
        Reports by name; default: every one that is installed.
    baseline
        Label, method or hash of the run that others are compared with; default: the first.
    published, title
        As the flags of ``harness report``.

    Raises
    ------
    UsageError
        For a report nobody has, or runs that cannot be read.
    """
    from ..comparison import reporting
    from ..results.gathering import read
    from ..results.merging import merged

    loaded = read([_meant(r) for r in runs] or [Path("runs")])
    names = [kind] if isinstance(kind, str) else list(kind)
    makers = reporting.makers(names or reporting.installed(reporting.EVERYTHING, others=True), published)
    ordered = reporting.first(merged(loaded), baseline)
    documents = [d for maker in makers if not (d := maker.build(ordered)).empty]
    return Shown(documents, title or reporting.title(ordered), ordered)


def score(file: str | Path, *, drop_thoughts: bool = False) -> Shown:
    """Score predictions that were made elsewhere: ``harness score``."""
    from ..evaluation.score_file import score_file

    result = score_file(Path(file), drop_thoughts=drop_thoughts)
    means = result.means()
    columns = [
        Column("task", "task", kind="name"),
        Column("n", "n", format=",d"),
        Column("score", "score", format=".2f"),
    ]
    rows = [Row({"task": Cell(t), "n": Cell(n), "score": Cell(means[t])}) for t, n in result.counts().items()]
    return Shown([Document("scores", "Scores", [Table("scores", "Scores × 100", columns, rows)])], "Scores")


def fit(
    method: str | type[Method] | Method, *, out: str | Path, progress: bool | None = None, **settings: Any
) -> FitResult:
    """Train or calibrate a method: ``harness fit``; `settings` are its flags and the method's options.

    Returns
    -------
    FitResult
        ``folder`` is the adapter for ``harness.run(adapter=...)``; ``card`` says what it was trained on.

    Raises
    ------
    UsageError
        For an argument nobody has, and whatever else cannot be carried out.
    """
    from .. import registry
    from ..console.progress import FitDisplay
    from ..console.quiet import quietly
    from ..training.plan import plan_fit
    from ..training.run import execute
    from ..training.settings import FitSettings

    name, own = named_method(method)
    cls = registry.method(name).cls
    given = {**own, **settings}
    known = {f.name for f in dataclasses.fields(FitSettings)} - {"method", "options", "fit_options", "out"}
    parts: dict[str, Any] = {"options": {}, "fit_options": {}}
    whole: dict[str, Any] = {}
    for key, value in given.items():
        if key in known:
            whole[key] = value
        elif key in cls.FitOptions.model_fields:
            parts["fit_options"][key] = value
        elif key in cls.Options.model_fields:
            parts["options"][key] = value
        else:
            choices = {*known, *cls.FitOptions.model_fields, *cls.Options.model_fields}
            raise unknown_name(f"argument of fit({name!r})", key, choices)
    if isinstance(data := whole.get("data"), str | Path):
        whole["data"] = (str(data),)
    elif data is not None:
        whole["data"] = tuple(map(str, data))
    with quietly(hushed(progress)), FitDisplay() as display:
        wanted = FitSettings(method=name, out=Path(out), **parts, **whole)
        return execute(plan_fit(wanted, display.note), display)


def synth(
    recipe: str, *, out: str | Path, progress: bool | None = None, **settings: Any
) -> Mapping[str, Any]:
    """Generate training data: ``harness synth``; `settings` are its flags, ``options`` those of the recipe.

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

    known = {f.name for f in dataclasses.fields(SynthSettings)} - {"recipe", "out"}
    for name in settings:
        if name not in known:
            raise unknown_name("argument of synth()", name, known)
    whole = {"count": None, **settings}
    with quietly(hushed(progress)), SynthDisplay() as display:
        return execute(plan_synthesis(SynthSettings(recipe=recipe, out=Path(out), **whole)), display)


def check(
    method: str | type[Method] | Method | None = None, *, task: str | None = None, only: Sequence[str] = ()
) -> Shown:
    """Try whether a method, or a task, keeps to its contract: ``harness check``."""
    from ..testing.methods import method_suite
    from ..testing.tasks import task_suite

    if (method is None) == (task is None):
        raise UsageError("check(): name one method, or one task with task=...")
    if method is not None:
        name, own = named_method(method)
        suite: Any = method_suite(name, {k: str(v) for k, v in own.items()})
    else:
        suite = task_suite(str(task), None)
    results = [suite.result(each) for each in suite.select(tuple(only))]
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
    bad = sum(not r.ok for r in results)
    title = f"{len(results)} checks, {bad} failed"
    return Shown([Document("check", title, [Table("check", title, columns, rows)])], title)


def reproduce(
    name: str,
    *,
    quick: bool = False,
    out: str | Path | None = None,
    progress: bool | None = None,
    **flags: Any,
) -> Shown:
    """Run a paper's table again, beside the published values: ``harness reproduce``."""
    from .. import registry
    from ..console.quiet import quietly
    from ..console.suite_progress import SuiteDisplay
    from ..suites import document
    from ..suites.matrix import spell
    from ..suites.plan import plan_suite
    from ..suites.run import carry_out

    overrides = {**flags, **({} if out is None else {"out": Path(out)})}
    spelled = spell(document.read(document.find(name)), overrides, quick=quick, variables={})
    folder: Path = spelled.rows[0].runs[0].out
    with quietly(hushed(progress)):
        display = SuiteDisplay()
        with display, display.announce(f"planning {spelled.suite.name}") as step:
            plan = plan_suite(spelled, folder, display.note, step)
        outcome = carry_out(plan, folder, display)
    cls = registry.report("suite").cls
    made = cls(cls.Options.parse({"outcome": outcome.path}, "report suite")).build([])
    return Shown([made], made.title)


def export(
    *runs: RunLike,
    out: str | Path,
    format: str | None = None,
    adapter: str | Path | None = None,
    force: bool = False,
) -> tuple[Path, ...]:
    """Write runs in a format of another tool: ``harness export``.

    Parameters
    ----------
    runs
        See `RunLike`; default: the folder ``runs``.
    out, format, adapter, force
        As the flags of ``harness export``.

    Returns
    -------
    tuple
        The files.

    Raises
    ------
    UsageError
        For a format nobody has, a file that is there, a package that is missing.
    """
    from ..exchange.exporting import export as write
    from ..results.gathering import read

    loaded = read([_meant(r) for r in runs] or [Path("runs")])
    return write(loaded, out, format, adapter=None if adapter is None else Path(adapter), force=force).files


def import_runs(
    path: str | Path,
    source: str,
    *,
    out: str | Path = "runs",
    like: str | Path | None = None,
    model: str | None = None,
    method: str | None = None,
) -> LoadedRun:
    """Make a run of what another tool has written: ``harness import``; `source` is its ``--from``.

    Raises
    ------
    UsageError
        In one line, with the file and what is missing in it.
    """
    from ..exchange.importing import import_runs as make
    from ..results.loading import load_run

    return load_run(make(path, source, out=out, like=like, model=model, method=method))


def _meant(given: RunLike) -> str | Path | Sequence[LoadedRun]:
    """A path, or loaded runs."""
    if isinstance(given, Run):
        return [given.load()]
    return [given] if isinstance(given, LoadedRun) else given
