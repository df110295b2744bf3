"""`effective`: up to which length a method keeps its score of short texts, for every task with a length axis."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness import Report
from harness.contracts import LoadedRun
from harness.contracts.record import SampleRecord
from harness.documents import Cell, Column, Document, Row, Table
from harness.results.summary import contexts_of
from harness.stats import clustered, confidence_interval, drawn_means, percentiles

from ._rows import RUN, TASK, Member, footers, members, run_cell

SHARE = 0.85
"""Of the base score that a length must keep (NoLiMa's)."""
BASE = 1024
"""Lengths that count as short; without any, the shortest length is the base."""
LEVEL = 0.95


@dataclass(frozen=True)
class Effective:
    """What a task's scores by length come to, each of the first three with its interval.

    Attributes
    ----------
    base
        The best mean of the short lengths: 0..1.
    length
        The largest length whose score keeps `SHARE` of the base, with nothing above it taken for granted: lengths
        between may have less. 0 if no length above the base does.
    loss
        Mean over the longer lengths of (score - base) / base; None where the base is 0 or no length is longer.
    tested
        Lengths that were run, ascending.
    """

    base: float
    length: float
    loss: float | None
    base_interval: tuple[float, float] | None
    length_interval: tuple[float, float] | None
    loss_interval: tuple[float, float] | None
    tested: tuple[float, ...]


class EffectiveLength(Report):
    """Base score, effective length and relative loss of each run, for every task that was run at several lengths."""

    def build(self, runs: Sequence[LoadedRun]) -> Document:
        rows, shared, failed = [], list[str](), list[str]()
        for member in (m for run in runs for m in members(run)):
            by_length, contexts = scores_by_length(member)
            n_ok = sum(map(len, by_length.values()))
            records = member.run.of_task(member.task).values()
            n = len(records)
            if None in map(_length, member.finished):
                continue
            asked = [_length(r) for r in records]
            lost = {each for each in asked if each is not None} - by_length.keys()
            if len(by_length) + len(lost) < 2:  # no axis of lengths
                continue
            if lost:
                failed.append(
                    f"{member.run.label} ({member.task}: {', '.join(f'{v:,.0f}' for v in sorted(lost))})"
                )
            if len(by_length) < 2:
                gone = dict.fromkeys(("base", "length", "loss"), Cell("failed", n_ok=n_ok, n=n))
                left = Cell(", ".join(f"{each:,.0f}" for each in by_length) or "–")
                cells = {"run": run_cell(member.run), "task": Cell(member.task), **gone, "tested": left}
                rows.append((member.task, Row(cells)))
                continue
            found = effective(by_length, contexts)
            on = len({c for mine in clustered([*by_length.values()], contexts) for c in mine})
            if on < n_ok:
                shared.append(f"{member.run.label} ({member.task}: {n_ok} on {on})")
            cells = {
                "run": run_cell(member.run),
                "task": Cell(member.task),
                "base": Cell(100 * found.base, _scaled(found.base_interval, 100), n_ok=n_ok, n=n),
                "length": Cell(found.length, found.length_interval, n_ok=n_ok, n=n),
                "loss": Cell("–")
                if found.loss is None
                else Cell(100 * found.loss, _scaled(found.loss_interval, 100), n_ok=n_ok, n=n),
                "tested": Cell(", ".join(f"{each:,.0f}" for each in found.tested)),
            }
            rows.append((member.task, Row(cells)))
        rows.sort(key=lambda row: row[0])  # plain beside each method, task by task
        columns = [
            RUN,
            TASK,
            Column("base", "base score"),
            Column("length", "effective length", "tokens", format=",.0f"),
            Column("loss", "relative loss", "%"),
            Column("tested", "lengths", kind="name"),
        ]
        notes = [
            f"base score: the best mean × 100 of the lengths up to {BASE:,} tokens, else of the shortest",
            f"effective length: the largest length run with at least {SHARE:.0%} of the base score; 0: none",
            "relative loss: mean over the longer lengths of (score - base) / base",
            "intervals: 95 %, from means drawn of each length, as far apart as its samples allow",
            *(
                [f"questions on one context are drawn together: {', '.join(shared)} contexts"]
                if shared
                else []
            ),
            *([f"lengths without a finished sample are left out: {', '.join(failed)}"] if failed else []),
            *footers(runs),
        ]
        tables = (
            [Table("effective", "Effective length", columns, [row for _, row in rows], notes)] if rows else []
        )
        return Document("effective", "Effective length", tables, [])


def scores_by_length(member: Member) -> tuple[dict[float, list[float]], list[list[Hashable]]]:
    """Scores of the finished samples at each length of the task's own, and what each is a question about.

    Nothing for a task without that axis.
    """
    found: dict[float, list[tuple[float, Hashable]]] = {}
    for record, context in zip(member.finished, contexts_of(member.finished)):
        if (length := _length(record)) is None:
            return {}, []
        found.setdefault(length, []).append((member.score(record), context))
    ordered = dict(sorted(found.items()))
    scores = {length: [score for score, _ in pairs] for length, pairs in ordered.items()}
    return scores, [[context for _, context in pairs] for pairs in ordered.values()]


def _length(record: SampleRecord) -> float | None:
    """The length that a task says of a sample, if it is a number."""
    length = record.metadata.get("length")
    return float(length) if isinstance(length, int | float) and not isinstance(length, bool) else None


def effective(
    by_length: dict[float, list[float]],
    contexts: Sequence[Sequence[Hashable]] | None = None,
    seed: int = 0,
) -> Effective:
    """Base, effective length and loss from the scores at each length, with intervals from drawn means.

    Parameters
    ----------
    by_length
        Scores 0..1 by ascending length; at least two lengths.
    contexts
        What each score's sample is a question about, in the order of `by_length`; default: each its own.
    """
    lengths = list(by_length)
    means = np.array([[sum(scores) / len(scores)] for scores in by_length.values()])
    base, length, loss = _of(means, lengths)
    few = any(len(scores) < 2 for scores in by_length.values())
    intervals: list[tuple[float, float] | None] = [None, None, None]
    if not few:
        drawn = _of(drawn_means(list(by_length.values()), contexts, seed), lengths)
        intervals = [
            percentiles(each[~np.isnan(each)], LEVEL) if (~np.isnan(each)).any() else None for each in drawn
        ]
    short = [i for i, each in enumerate(lengths) if each <= BASE] or [0]
    if len(short) == 1:  # the mean of one length, which has its interval wherever it is shown
        [only] = short
        of_it = None if contexts is None else list(contexts[only])
        intervals[0] = confidence_interval(by_length[lengths[only]], clusters=of_it)
    value = float(loss[0])
    return Effective(
        float(base[0]),
        float(length[0]),
        None if np.isnan(value) else value,
        _holding(float(base[0]), intervals[0]),
        _holding(float(length[0]), intervals[1]),
        None if np.isnan(value) else _holding(value, intervals[2]),
        tuple(lengths),
    )


def _holding(value: float, interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """An interval that holds the value it is of: means that are drawn are never 0, and a mean may be."""
    return None if interval is None else (min(value, interval[0]), max(value, interval[1]))


def _of(
    means: NDArray[np.float64], lengths: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Base, effective length and loss of each column of means (a row for each length); no loss is NaN."""
    short = [i for i, length in enumerate(lengths) if length <= BASE] or [0]
    longer = [i for i in range(len(lengths)) if i not in short]
    base = means[short].max(axis=0)
    keeps = (means >= SHARE * base - 1e-12) & (base > 0)
    reached = np.where(keeps, np.asarray(lengths, dtype=float)[:, None], 0.0)
    length = reached.max(axis=0)
    if not longer:
        return base, length, np.full_like(base, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.where(base > 0, ((means[longer] - base) / base).mean(axis=0), np.nan)
    return base, length, loss


def _scaled(interval: tuple[float, float] | None, factor: float) -> tuple[float, float] | None:
    return None if interval is None else (factor * interval[0], factor * interval[1])
