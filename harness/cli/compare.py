"""``harness compare``: is a run better or worse than a baseline, or can nothing be told?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ._output import emit, json_flag, quiet_flag

if TYPE_CHECKING:
    from ..comparison.gate import Gate
    from ..comparison.rows import Comparison


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
    the plain mean of its tasks. It counts samples that failed, or are missing, as wrong, in both runs.
    """
    from ..comparison import compare_all, compare_many
    from ..comparison.gate import gate
    from ..results.gathering import gathered

    a, runs = gathered(baseline, others, baselines)
    left_out: list[str] = []
    if points is None:
        found, left_out = compare_all(a, runs, level, resamples, seed, tasks=tasks, metric=metric)
    else:  # a gate does not open because it could not look
        found = compare_many(a, runs, level, resamples, seed, tasks=tasks, metric=metric)
    # What failed is not missing at random: a gate counts it as wrong.
    closed = (
        None if points is None else gate(a, runs, points, level, resamples, seed, tasks=tasks, metric=metric)
    )
    if as_json:
        emit({"comparisons": [c.to_json() for c in found], **_as_json(closed), "not_compared": left_out})
    else:
        _show(found, closed, left_out, everything)
    return 1 if closed and closed.worse else 0


def _as_json(closed: Gate | None) -> dict[str, Any]:
    """What a gate came to, for a program."""
    if closed is None:
        return {"failures": []}
    rows = {
        name: [{"run": c.run.label, "hash": c.run.hash, "row": r.name} for c, r in found]
        for name, found in (("failures", closed.worse), ("blind", closed.blind))
    }
    return {**rows, "gate": [line for line, _ in closed.lines()]}


def _show(
    found: Sequence[Comparison], closed: Gate | None, left_out: Sequence[str], everything: bool
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
    for line, style in closed.lines() if closed else ():
        display.show(lambda width, line=line, style=style: Text(line, style=style))  # type: ignore[misc]
    if not everything:
        display.show(
            lambda width: Text("every data set and column, and how it was tested: --all", style="dim")
        )
