"""Columns of a table of scores: each family's data sets by category, as its papers print them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import UsageError
from harness.comparison import PLAIN_MEAN, average_weights
from harness.contracts import LoadedRun
from harness.documents import Column


@dataclass(frozen=True)
class ScoreColumn:
    """A task, or an average of a family, and the weight of each task in it.

    `key` is the task, or family and average with a colon between; `short` is the variant's or the average's
    own name, as a published table has it.
    """

    key: str
    family: str
    short: str
    weights: dict[str, float]
    column: Column

    @property
    def is_average(self) -> bool:
        return ":" in self.key


def score_columns(runs: Sequence[LoadedRun]) -> list[ScoreColumn]:
    """Columns for every task of the runs: data sets grouped by the averages they are in, then the whole average."""
    tasks = list(dict.fromkeys(t.name for run in runs for t in run.tasks))
    found: list[ScoreColumn] = []
    for family in dict.fromkeys(t.partition("/")[0] for t in tasks):
        mine = [t for t in tasks if t.partition("/")[0] == family]
        found += _family(family, mine, runs)
    return found


def _family(family: str, tasks: Sequence[str], runs: Sequence[LoadedRun]) -> list[ScoreColumn]:
    variants = [t.partition("/")[2] for t in tasks]
    averages: dict[str, dict[str, float]] = {}
    if all(variants):
        try:
            averages, _ = average_weights(family, variants)
        except UsageError:  # the family is not installed here: its data sets stand without averages
            averages = {}
    wide = {
        name
        for name, weights in averages.items()
        if name == PLAIN_MEAN or any(weights.keys() > other.keys() for other in averages.values())
    }
    placed: set[str] = set()
    found: list[ScoreColumn] = []
    for name, weights in averages.items():
        if name in wide or placed & weights.keys():
            continue
        found += [_task(family, v, runs, name) for v in weights]
        found.append(_average(family, name, weights, name))
        placed |= weights.keys()
    found += [_task(family, v, runs, "") for v in variants if v not in placed]
    done = {c.short for c in found if c.is_average}
    return found + [_average(family, n, w, "") for n, w in averages.items() if n not in done]


def _task(family: str, variant: str, runs: Sequence[LoadedRun], group: str) -> ScoreColumn:
    name = f"{family}/{variant}" if variant else family
    metric = next(task.metric for run in runs if (task := run.task(name)))
    heading = variant or family
    if metric not in ("score", heading):
        heading = f"{heading} ({metric})"
    return ScoreColumn(name, family, variant or family, {name: 1.0}, Column(name, heading, group=group))


def _average(family: str, name: str, weights: dict[str, float], group: str) -> ScoreColumn:
    tasks = {f"{family}/{variant}": weight for variant, weight in weights.items()}
    heading = "mean" if group else f"{family} {name}"
    column = Column(f"{family}:{name}", heading, format=".2f", group=group)
    return ScoreColumn(f"{family}:{name}", family, name, tasks, column)
