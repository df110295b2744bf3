"""The answer first: for each family of tasks who is better than the baseline, by how much, how sure, at what cost.

One function says it, whatever shows it: the terminal, a page, Markdown, Python.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .._util.units import MIB
from ..contracts.run import LoadedRun
from ..documents.document import Answer
from ..errors import UsageError
from ..results.summary import contexts_of
from ..stats.bootstrap import average_interval, confidence_interval
from .averages import average_weights
from .costs import MeanCost, mean_cost
from .rows import TELLING, Comparison, Row
from .verdicts import compare_all

Told = Literal["better", "worse", "cannot be told"]
ORDER: tuple[Told, ...] = ("better", "cannot be told", "worse")
MOST = 4
"""Runs of a family that have a sentence of their own."""


@dataclass(frozen=True)
class Finding:
    """What is known of one run on one family of tasks, held against the baseline.

    Attributes
    ----------
    family
        The row that speaks for the family: its average, or its only task.
    run, baseline
        Labels.
    row
        Of the comparison: difference, interval, p-value, samples.
    cost, baseline_cost
        Over the same tasks.
    remark
        What makes the two unequal: ``it sees the question``; empty if nothing does.
    """

    family: str
    run: str
    baseline: str
    row: Row
    cost: MeanCost
    baseline_cost: MeanCost
    remark: str = ""

    @property
    def against(self) -> str:
        """The family with what the baseline scored and cost."""
        score = f"{100 * self.row.mean_a:.1f}"
        return f"{self.family} (baseline {self.baseline}: {score}; {_cost_text(self.baseline_cost)})"

    @property
    def told(self) -> Told:
        """The verdict in the words of the headline."""
        return self.row.verdict if self.row.verdict in ("better", "worse") else "cannot be told"

    @property
    def text(self) -> str:
        """The finding as a sentence."""
        row, points = self.row, 100 * self.row.difference
        n = f"n = {row.n}" if row.whole else f"n = {row.n} of {max(row.planned_a, row.planned_b)}"
        mark = f"; {_cost_text(self.cost)}" + (f"; {self.remark}" if self.remark else "")
        if self.told == "cannot be told":
            spread = "" if row.interval is None else f" {_interval(row.interval)}"
            return (
                f"{self.run} cannot be told from {self.baseline}: {signed(points)} points{spread}, {n}"
                f"{_needed_text(row)}{mark}"
            )
        bounds = row.interval or (row.difference, row.difference)
        sizes = bounds if self.told == "better" else (-bounds[1], -bounds[0])
        return (
            f"{self.run} is {self.told} than {self.baseline} by {abs(points):.1f} points "
            f"{_interval(sizes, sign=False)}, {n}, {_p(row.p_adjusted)}{mark}"
        )

    def to_json(self) -> dict[str, Any]:
        """What a program needs; scores are 0..1."""
        return {
            "family": self.family,
            "run": self.run,
            "baseline": self.baseline,
            "verdict": self.told,
            "difference": self.row.difference,
            "interval": None if self.row.interval is None else list(self.row.interval),
            "n": self.row.n,
            "p_adjusted": self.row.p_adjusted,
            "samples_needed": self.row.samples_needed,
            "cost": dict(vars(self.cost)),
            "baseline_cost": dict(vars(self.baseline_cost)),
            "text": self.text,
        }


@dataclass(frozen=True)
class Headline:
    """What runs come to: findings by family, and why some runs say nothing."""

    baseline: str
    findings: tuple[Finding, ...]
    alone: tuple[Answer, ...] = ()
    left_out: tuple[str, ...] = ()

    def answers(self, most: int = MOST) -> list[Answer]:
        """By family: the sentences, those that are better first, of at most so many runs."""
        found = list(self.alone)
        for family in dict.fromkeys(f.family for f in self.findings):
            mine = [f for f in self.findings if f.family == family]
            mine.sort(key=lambda f: (ORDER.index(f.told), -f.row.difference))
            shown = mine if len(mine) <= most + 1 else mine[:most]
            lines: list[tuple[str, str]] = [(f.told, f.text) for f in shown]
            if rest := mine[len(shown) :]:
                counts = Counter(f.told for f in rest)
                words = ", ".join(f"{counts[told]} {told}" for told in ORDER if counts[told])
                lines.append(("", f"And {len(rest)} more runs: {words}; the comparison names them"))
            found.append(Answer(mine[0].against, lines))
        return found


def headline(
    runs: Sequence[LoadedRun], compared: tuple[Sequence[Comparison], Sequence[str]] | None = None
) -> Headline:
    """The answer that runs give: every run against the first, or what a single one scored.

    Parameters
    ----------
    runs
        The first is the baseline.
    compared
        What `compare_all` found of them, if that is known already.
    """
    if not runs:
        return Headline("", ())
    baseline = runs[0]
    if len(runs) < 2:
        return Headline(baseline.label, (), tuple(_alone(baseline)))
    try:
        found, reasons = compared or compare_all(baseline, runs[1:])
    except UsageError as error:
        found, reasons = [], [str(error)]
    if not found:
        return Headline(baseline.label, (), tuple(_alone(baseline)), tuple(reasons))
    findings = tuple(_finding(c, row) for c in found for row in c.deciding())
    return Headline(baseline.label, findings, left_out=tuple(reasons))


def _finding(made: Comparison, row: Row) -> Finding:
    weights = dict(zip(row.tasks, row.weights))
    remark = ""
    if made.run.sees_question != made.baseline.sees_question:
        remark = f"only {(made.run if made.run.sees_question else made.baseline).label} sees the question"
    return Finding(
        row.name,
        made.run.label,
        made.baseline.label,
        row,
        mean_cost(made.run, weights),
        mean_cost(made.baseline, weights),
        remark,
    )


def _alone(run: LoadedRun) -> list[Answer]:
    """What one run scored on each family, with nothing to hold it against."""
    found = []
    for family in dict.fromkeys(t.name.partition("/")[0] for t in run.tasks):
        tasks = [t for t in run.tasks if t.name.partition("/")[0] == family]
        variants = [t.name.partition("/")[2] for t in tasks]
        name, weights = tasks[0].name, {tasks[0].name: 1.0}
        if len(tasks) > 1:
            try:
                averages, _ = average_weights(family, variants)
            except UsageError:
                averages = {}
            chosen = max(averages.items(), key=lambda item: len(item[1]), default=None)
            name = f"{family} {chosen[0]}" if chosen else f"{family} mean of tasks"
            shares = chosen[1] if chosen else dict.fromkeys(variants, 1 / len(variants))
            weights = {f"{family}/{variant}": w for variant, w in shares.items()}
        if line := _score_text(run, weights):
            found.append(Answer(name, [("", line)]))
    return found


def _score_text(run: LoadedRun, weights: dict[str, float]) -> str:
    scores = {
        task: [float(r.scores[metric]) for r in run.of_task(task).values() if r.finished]
        for task in weights
        if (metric := getattr(run.task(task), "metric", None))
    }
    asked = sum(getattr(run.task(task), "planned", 0) for task in weights)
    n = sum(map(len, scores.values()))
    counted = f"n = {n}" if n == asked else f"n = {n} of {asked}"
    if not all(scores.values()):
        return f"{run.label} has no score: not every task has a finished sample, {counted}"
    mean = sum(w * sum(scores[task]) / len(scores[task]) for task, w in weights.items())
    equal = max(weights.values()) - min(weights.values()) < 1e-9
    spread = None
    shared = [contexts_of([r for r in run.of_task(task).values() if r.finished]) for task in scores]
    if len(scores) == 1:
        spread = confidence_interval(next(iter(scores.values())), clusters=shared[0])
    elif equal:
        spread = average_interval(list(scores.values()), clusters=shared)
    shown = "" if spread is None else f" {_interval(spread, sign=False)}"
    return f"{run.label} scores {100 * mean:.1f}{shown}, {counted}; {_cost_text(mean_cost(run, weights))}"


def _cost_text(cost: MeanCost) -> str:
    """``12.0x compression, 12.4 MiB of KV, 9.6 s a sample``."""
    parts = []
    if cost.compression is not None:
        parts.append(f"{cost.compression:.1f}x compression" + ("" if cost.verified else " as it declares"))
    if cost.kv_bytes is not None:
        parts.append(f"{_amount(cost.kv_bytes / MIB)} MiB of KV")
    if cost.seconds is not None:
        parts.append(f"{_amount(cost.seconds)} s a sample")
    return ", ".join(parts) or "no measured cost"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _needed_text(row: Row) -> str:
    points = f"{100 * TELLING:.0f} points"
    if row.interval is not None and max(map(abs, row.interval)) < TELLING:
        return f"; a difference of {points} is ruled out"
    if row.samples_needed is None or row.samples_needed <= row.n:
        return ""
    on = (
        f" on {math.ceil(row.samples_needed * row.contexts / row.n)} contexts" if row.contexts < row.n else ""
    )
    return f"; {row.samples_needed} samples{on} would tell a difference of {points}"


def signed(points: float) -> str:
    """A difference in points with its sign: ``+1.2``, ``−0.3``, ``0.0``."""
    shown = f"{points:+.1f}".replace("-", "−")
    return "0.0" if shown[1:] == "0.0" else shown


def _interval(interval: tuple[float, float] | None, *, sign: bool = True) -> str:
    if interval is None:
        return ""
    return "[" + ", ".join(signed(100 * v) if sign else f"{100 * v:.1f}" for v in interval) + "]"


def _p(p: float | None) -> str:
    return "" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
