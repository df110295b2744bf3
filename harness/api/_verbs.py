"""`compare`, `report`, `score`, `reproduce`, `export` and `import` from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..contracts.run import LoadedRun
from ..documents import Cell, Column, Document, Row, Table
from ..errors import UsageError
from ._given import hushed
from ._run import Run
from ._shown import Comparisons, Shown

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
