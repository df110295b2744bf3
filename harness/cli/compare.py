"""``harness compare``: is a run better or worse than a baseline, or can nothing be told?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ._output import emit, json_flag, quiet_flag

if TYPE_CHECKING:
    from ..comparison.rows import Comparison, Row


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
    help="Of each bootstrap and permutation test.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything drawn.")
@click.option("--all", "everything", is_flag=True, help="Every data set and column, and how it was tested.")
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
    everything: bool,
    as_json: bool,
) -> int:
    """Hold finished runs B against the baseline A, sample by sample.

    A and B are run folders, folders of runs (B), or names of recorded baselines; NAME:HASH picks one run of
    several. Only samples that both finished, and that asked the same, are compared.

    --fail-if-worse looks at the average over most sets of each family of tasks; of a part of a benchmark that is
    the plain mean of its tasks. It counts samples that failed as wrong, in both runs.
    """
    from ..comparison import compare_all, compare_many
    from ..results.gathering import gathered

    a, runs = gathered(baseline, others, baselines)
    left_out: list[str] = []
    if points is None:
        found, left_out = compare_all(a, runs, level, resamples, seed, tasks=tasks, metric=metric)
    else:  # a gate does not open because it could not look
        found = compare_many(a, runs, level, resamples, seed, tasks=tasks, metric=metric)
    judged = found
    if points is not None:  # what failed is not missing at random: a gate counts it as wrong
        judged = compare_many(
            a, runs, level, resamples, seed, tasks=tasks, metric=metric, failed_as_wrong=True
        )
    worse = [(c, r) for c in judged for r in (c.worse_by(points) if points is not None else ())]
    if as_json:
        failures = [{"run": c.run.label, "hash": c.run.hash, "row": r.name} for c, r in worse]
        emit({"comparisons": [c.to_json() for c in found], "failures": failures, "not_compared": left_out})
    else:
        _show(found, worse, points, left_out, judged, everything)
    return 1 if worse else 0


def _show(
    found: Sequence[Comparison],
    worse: Sequence[tuple[Comparison, Row]],
    points: float | None,
    left_out: Sequence[str],
    judged: Sequence[Comparison],
    everything: bool,
) -> None:
    from rich.text import Text

    from .. import render
    from ..comparison import headline
    from ..comparison.tables import comparison_tables
    from ..console.progress import Display
    from ..documents import Document
    from ..results.labels import shared_options, unsaid_options

    display = Display()
    runs = [found[0].baseline, *(c.run for c in found)]
    told = [f"every {method} here: {options}" for method, options in shared_options(runs).items()]
    told += [f"{label} with {options}" for label, options in unsaid_options(runs).items()]
    tables = comparison_tables(found, told)
    if everything:
        tables = [replace(table, folded=False) for table in tables]
    document = Document(
        "comparison",
        "Comparison",
        tables,
        notes=[f"not compared: {reason}" for reason in left_out],
        answers=headline(runs, (found, [])).answers(),
    )
    display.show(lambda width: render.as_terminal([document], width, compact=not everything))
    for line, style in _gate(found, worse, points, judged):
        display.show(lambda width, line=line, style=style: Text(line, style=style))  # type: ignore[misc]
    if not everything:
        display.show(
            lambda width: Text("every data set and column, and how it was tested: --all", style="dim")
        )


def _gate(
    found: Sequence[Comparison],
    worse: Sequence[tuple[Comparison, Row]],
    points: float | None,
    judged: Sequence[Comparison],
) -> Iterator[tuple[str, str]]:
    """What ``--fail-if-worse`` came to, in lines with their styles."""
    from ..comparison.headline import signed

    for comparison, row in worse:
        yield (
            f"{comparison.run.label} is worse on {row.name}: {signed(100 * row.difference)} points of 100",
            "red",
        )
    if points is None:
        return
    if any(r.finished_a < r.planned_a or r.finished_b < r.planned_b for c in found for r in c.rows):
        yield "this gate counts samples that failed as wrong", "yellow"
    if not worse:
        yield f"no run is significantly worse by more than {points:g} points", ""
    blind = [f"{c.run.label} on {r.name}" for c in judged for r in c.deciding() if r.p_adjusted is None]
    if blind:  # a gate that cannot see must not look like one that saw nothing
        yield f"too few samples to notice if it were worse: {', '.join(blind)}", "yellow"
