"""``harness compare``: is a run better or worse than a baseline, or can nothing be told?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ..errors import UsageError, unknown_name
from ._output import emit, json_flag, quiet_flag

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ..comparison.rows import Comparison, Row
    from ..contracts.run import LoadedRun

COLOURS = {"better": "green", "worse": "red"}


class _Finite(click.FloatRange):
    """A range that ``nan`` and ``inf`` are not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("baseline", metavar="A")
@click.argument("others", metavar="B...", nargs=-1, required=True)
@click.option("-t", "--task", "tasks", multiple=True, help="Only this task or family, repeatable.")
@click.option("--metric", help="Another score than each task's main one.")
@click.option(
    "--fail-if-worse",
    "points",
    type=_Finite(min=0),
    metavar="POINTS",
    help="Exit 1 if a run is significantly worse than A, and by more than so many points of 100.",
)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path),
    default=Path("recorded"),
    show_default=True,
    help="Folder of recorded baselines.",
)
@click.option(
    "--level",
    type=_Finite(0.5, 0.9999),
    default=0.95,
    show_default=True,
    help="Of intervals; 1 - LEVEL is the share of false alarms accepted over the table.",
)
@click.option(
    "--resamples",
    type=click.IntRange(100, 10_000_000),
    default=10_000,
    show_default=True,
    help="Of each permutation test.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything drawn.")
@json_flag("the comparisons")
@quiet_flag
def compare(
    baseline: str,
    others: tuple[str, ...],
    tasks: tuple[str, ...],
    metric: str | None,
    points: float | None,
    baselines: Path,
    level: float,
    resamples: int,
    seed: int,
    as_json: bool,
) -> int:
    """Hold finished runs B against the baseline A, sample by sample.

    A and B are run folders, folders of runs (B), or names of recorded baselines; NAME:HASH picks one run of
    several. Only samples that both finished, and that asked the same, are compared.

    --fail-if-worse looks at the average over most sets of each family of tasks; of a part of a benchmark that is
    the plain mean of its tasks. It counts samples that failed, or are missing, as wrong, in both runs.
    """
    from ..comparison.gate import gate
    from ..comparison.verdicts import comparable, compare_many

    a, runs = _gather(baseline, others, baselines)
    left_out: list[str] = []
    try:
        found = compare_many(a, runs, level, resamples, seed, tasks=tasks, metric=metric)
    except UsageError:
        kept, left_out = comparable(a, runs, tasks=tasks, metric=metric)
        if not kept or points is not None:  # a gate does not open because it could not look
            raise
        found = compare_many(a, kept, level, resamples, seed, tasks=tasks, metric=metric)
    closed = None
    if points is not None:  # what failed is not missing at random: a gate counts it as wrong
        closed = gate(a, runs, points, level, resamples, seed, tasks=tasks, metric=metric)
    if as_json:
        rows = (
            {
                name: [{"run": c.run.label, "hash": c.run.hash, "row": r.name} for c, r in found_rows]
                for name, found_rows in (("failures", closed.worse), ("blind", closed.blind))
            }
            if closed
            else {"failures": []}
        )
        said = {"gate": [line for line, _ in closed.lines()]} if closed else {}
        emit({"comparisons": [c.to_json() for c in found], **rows, **said, "not_compared": left_out})
    else:
        _show(found, closed.lines() if closed else (), left_out)
    return 1 if closed and closed.worse else 0


def _gather(baseline: str, others: Sequence[str], folder: Path) -> tuple[LoadedRun, list[LoadedRun]]:
    """The baseline and the runs, under labels that tell all of them apart."""
    from ..results.labels import labelled

    first = _runs(baseline, folder)
    if len(first) > 1:
        choices = ", ".join(f"{baseline}:{r.hash} ({r.label})" for r in first)
        raise UsageError(f"{baseline} holds {len(first)} runs; name one as the baseline: {choices}")
    rest: dict[tuple[str, str], LoadedRun] = {}
    for name in others:
        for run in _runs(name, folder):
            rest.setdefault((run.source, run.hash), run)
    if len(rest) > 1:  # a folder of runs may hold the baseline too
        rest.pop((first[0].source, first[0].hash), None)
    a, *runs = labelled([*first, *rest.values()])
    return a, runs


def _runs(name: str, folder: Path) -> list[LoadedRun]:
    """What the user means by a name: run folders, a recorded baseline, or one run of either."""
    from ..results import recorded_baselines
    from ..results.loading import load_runs

    if Path(name).is_dir():
        return load_runs([name])
    whole, colon, digest = name.rpartition(":")
    if not colon or Path(name).is_file():
        return recorded_baselines.read(recorded_baselines.find(name, folder))
    runs = _runs(whole, folder)
    chosen = [r for r in runs if digest and r.hash.startswith(digest)]
    if len(chosen) != 1:
        raise unknown_name(f"one run of {whole}", digest, [r.hash for r in runs])
    return chosen


def _show(
    found: Sequence[Comparison], gate_lines: Sequence[tuple[str, str]], left_out: Sequence[str]
) -> None:
    from rich.text import Text

    from ..console.progress import Display
    from ..results.labels import shared_options

    display = Display()
    for comparison in found:
        display.show(lambda width, c=comparison: _table(c))  # type: ignore[misc]
    for reason in left_out:
        display.show(lambda width, line=f"not compared: {reason}": Text(line, style="yellow"))  # type: ignore[misc]
    for method, options in shared_options([found[0].baseline, *(c.run for c in found)]).items():
        line = f"every {method} here: {options}"
        display.show(lambda width, line=line: Text(line, style="dim"))  # type: ignore[misc]
    display.show(lambda width: _legend(found[0]))
    for line, style in gate_lines:
        display.show(lambda width, line=line, style=style: Text(line, style=style))  # type: ignore[misc]


def _table(c: Comparison) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    title = f"[bold]{escape(c.run.label)}[/bold] against {escape(c.baseline.label)}"
    table: Table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", overflow="fold")
    for head in ("n", "A", "B", f"B - A [{100 * c.level:g} %]", "wins-losses", "p", "p Holm"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("B is")
    for r in c.rows:
        colour = COLOURS.get(r.verdict)
        table.add_row(
            escape(r.name) + (f" ({escape(r.metric)})" if r.metric != "score" and not r.members else ""),
            (str(r.n) if r.whole else f"{r.n} of {r.planned_a}/{r.planned_b}")
            + (f" on {r.contexts}" if r.contexts < r.n else ""),
            f"{100 * r.mean_a:.1f}",
            f"{100 * r.mean_b:.1f}",
            _points(r.difference) + _interval(r),
            f"{r.wins}-{r.losses}",
            _p(r.p),
            _p(r.p_adjusted),
            f"[{colour}]{r.verdict}[/{colour}]" if colour else r.verdict,
        )
    notes = [Text(f"note: {each}", style="yellow") for each in c.caveats]
    return Group(title, table, *notes)


def _legend(c: Comparison) -> RenderableType:
    from rich.text import Text

    tests = f"{c.tests} test{'s' * (c.tests != 1)}" if c.tests else "no test: every row has too few samples"
    return Text(
        "paired on sample ids; interval: what the row's test would not reject, corrected as its p is; p: McNemar's "
        f"exact test for scores of 0 and 1, else sign flips ({c.resamples:,} drawn where there are too many to try "
        f"all), corrected by Holm over {tests}; p Holm < {1 - c.level:g} is better or worse, else indistinguishable",
        style="dim",
    )


def _points(difference: float) -> str:
    shown = f"{100 * difference:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown


def _interval(r: Row) -> str:
    if r.interval is None:
        return " [–]"
    return f" [{_points(r.interval[0])}, {_points(r.interval[1])}]"


def _p(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
