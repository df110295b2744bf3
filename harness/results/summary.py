"""From sample records to the rows of a table. Reads records only; a mean is over what finished, and says so."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .._util.thoughts import holds_thought
from ..contracts.phases import PHASES
from ..contracts.record import Key, SampleRecord
from ..contracts.task import ScoredSample, Task
from ..errors import UsageError
from ..stats.bootstrap import average_interval, clustered, confidence_interval, mean

Records = Mapping[Key, SampleRecord]
STEP = 1e-6
"""So much the mean of one data set is moved to see what an average makes of it."""

THOUGHT = "the answer holds a thought (<think>), which was scored with it"


def summarise(tasks: Sequence[Task], planned: Sequence[Key], records: Records) -> dict[str, Any]:
    """Rows for each task, averages of each family, and totals.

    Parameters
    ----------
    tasks
        The tasks of the run.
    planned
        (task, id) of every sample that was asked for.
    records
        Records by the same keys; failed and missing ones count as not finished.

    Returns
    -------
    dict
        ``tasks``: a row for each task (see `row`); ``averages``: for each family the averages its papers
        report, each with an interval, the same over each part of the breakdowns, and the family's verdict;
        ``total``: samples planned, finished, failed, and missing because the run was interrupted. Scores are
        0..1.
    """
    rows, scores, contexts = [], {}, {}
    for task in tasks:
        keys = [key for key in planned if key[0] == task.name]
        mine = [records[key] for key in keys if key in records]
        finished = [r for r in mine if r.finished]
        rows.append(row(task, len(keys), mine))
        scores[task.name] = [float(r.scores[task.metrics[0]]) for r in finished]
        contexts[task.name] = contexts_of(finished)
    finished_n = sum(r["n_ok"] for r in rows)
    missing = sum(key not in records for key in planned)
    return {
        "tasks": rows,
        "averages": _averages(tasks, rows, scores, contexts),
        "total": {
            "n": len(planned),
            "n_ok": finished_n,
            "failed": len(planned) - finished_n - missing,
            "missing": missing,
        },
    }


def digest(records: Iterable[SampleRecord]) -> str:
    """Sixteen hex digits over all that a summary reads of `records`, in whatever order they come."""
    lines = sorted(
        json.dumps([r.key, r.status, r.scores, r.metadata, r.prompt_tokens, r.stop_reason])
        + (json.dumps(r.text_hash) if r.text_hash else "")
        + json.dumps([vars(r.truncation), vars(r.measured), vars(r.cost)])
        for r in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def own_digest(summary: Mapping[str, Any]) -> str:
    """Sixteen hex digits over a summary as it stands in `run.json`: one that was edited is made anew."""
    as_read = json.loads(json.dumps(summary))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()[:16]


def sums_up(content: Mapping[str, Any], records: Records) -> bool:
    """Whether the summary in `run.json` is one of these records: lines, or itself, may have been edited since.

    A run of an earlier version has no digest of them; there counts and means must agree.
    """
    if (own := content.get("summary_sum")) and own != own_digest(content["summary"]):
        return False
    if told := content.get("summary_of"):
        return bool(told == digest(records.values()))
    for made in content["summary"].get("tasks", ()):
        scores = [
            r.scores.get(made["metric"]) for r in records.values() if r.task == made["task"] and r.finished
        ]
        if made.get("n_ok", len(scores)) != len(scores) or None in scores:
            return False
        if made.get("interval") is None or made.get("score") is None:
            continue  # no mean, or of too few samples to tell
        if abs(float(np.mean(scores)) - made["score"]) > 1e-9:  # type: ignore[arg-type]
            return False
    return True


def contexts_of(records: Sequence[SampleRecord]) -> list[Hashable]:
    """What each of a task's records is a question about: what makes them dependent on one another."""
    return [r.text_hash or r.key for r in records]


def row(task: Task, n: int, records: Sequence[SampleRecord]) -> dict[str, Any]:
    """One task's row: score and interval, what was truncated, what was measured, what it cost.

    ``contexts``, if there are fewer than samples, is how many texts they are questions about.

    Costs and token counts are means over finished samples; ``compression`` is all prompt tokens over all KV
    entries that stood for them; ``peak_bytes`` is the highest; ``saved_seconds`` is the sum of what was not
    spent because questions shared a compressed context, and ``shared`` how many did.
    """
    ok = [r for r in records if r.finished]
    metric = task.metrics[0]
    scored = [_scored(r) for r in ok]
    with _whole(task):
        main = [float(r.scores[metric]) for r in ok]
        aggregated = task.aggregate(scored) if scored else {}
        breakdown = task.breakdown(scored) if scored else {}
    score = aggregated.get(metric, mean(main))
    # The interval is one of a mean; a task that aggregates otherwise gets none rather than a wrong one.
    a_mean = bool(main) and score is not None and abs(score - sum(main) / len(main)) < 1e-9
    contexts = contexts_of(ok)
    on = len(set(*clustered([ok], [contexts])))
    kept = sum(r.measured.kv_tokens for r in ok)
    lost = [r for r in ok if r.truncation.answer_survives is not None]

    def average(pick: Callable[[SampleRecord], Any]) -> float | None:
        values = [v for r in ok if (v := pick(r)) is not None]
        return mean(values)

    return {
        "task": task.name,
        "metric": metric,
        "n": n,
        "n_ok": len(ok),
        "statuses": {s: sum(r.status == s for r in records) for s in sorted({r.status for r in records})},
        "score": score,
        "interval": confidence_interval(main, clusters=contexts) if a_mean else None,
        **({"contexts": on} if on < len(ok) else {}),
        "scores": aggregated,
        "breakdown": breakdown,
        "truncated": average(lambda r: float(bool(r.truncation.truncated))),
        "answer_lost": mean([float(not r.truncation.answer_survives) for r in lost]),
        "hit_limit": average(lambda r: mean([float(why == "length") for why in r.stop_reasons])),
        "prompt_tokens": average(lambda r: r.prompt_tokens),
        "compression": sum((r.prompt_tokens or 1) - 1 for r in ok) / kept if kept else None,
        "proved": sum(r.measured.verified and not r.extra.get("doubts") for r in ok),
        "verified": all(r.measured.verified for r in ok) if ok else None,
        "kv_bytes": average(lambda r: r.cost.kv_bytes),
        "peak_bytes": max((r.cost.peak_bytes or 0 for r in ok), default=0) or None,
        "shared": sum(max(1, len(r.answers)) for r in ok if r.cost.questions > 1),
        "saved_seconds": sum(r.cost.saved_seconds for r in ok),
        **({"remote": True} if ok and all(unseen(r) for r in ok) else {}),
        **({"notes": noted} if (noted := _noted(ok)) else {}),
        **{
            f"{name}_seconds": average(lambda r, name=name: getattr(r.cost, f"{name}_seconds"))  # type: ignore[misc]
            for name in PHASES
        },
    }


def unseen(record: SampleRecord) -> bool:
    """Whether nobody saw how an answer was made: it came from elsewhere, and only its time is known."""
    return record.cost.seconds is not None and record.cost.decode_seconds is None


def _scored(record: SampleRecord) -> ScoredSample:
    """A record as its task sees it."""
    answers = [
        ScoredSample(f"{record.id}#{n}", a.scores, {**record.metadata, **a.metadata})
        for n, a in enumerate(record.answers, start=1)
    ]
    return ScoredSample(record.id, record.scores, record.metadata, tuple(answers))


def _noted(records: Sequence[SampleRecord]) -> dict[str, int]:
    """What must be known of answers, by what their methods say and by what they hold, and of how many answers."""
    said: Counter[str] = Counter()
    for record in records:
        notes = record.details.get("notes")
        said.update(dict.fromkeys(map(str, notes if isinstance(notes, list) else ()), 1))
        doubts = record.extra.get("doubts")
        said.update({f"in doubt: {each}": 1 for each in doubts} if isinstance(doubts, list) else {})
        texts = [a.prediction for a in record.answers] or [record.prediction]
        said.update([THOUGHT] * any(holds_thought(text or "") for text in texts))
    return dict(said)


@contextmanager
def _whole(task: Task) -> Iterator[None]:
    """Raise UsageError where a record has not what its task reads: somebody has edited it."""
    try:
        yield
    except KeyError as error:
        raise UsageError(
            f"task {task.name}: the record of a finished sample has no {error}, which its table needs; remove the "
            "lines without it to run their samples again (HARNESS_DEBUG=1 shows who reads it)"
        ) from error


def _averages(
    tasks: Sequence[Task],
    rows: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Sequence[float]],
    contexts: Mapping[str, Sequence[Hashable]],
) -> dict[str, dict[str, Any]]:
    """Averages of each family over its variants, with intervals."""
    families: dict[str, list[tuple[Task, Mapping[str, Any]]]] = {}
    for task, r in zip(tasks, rows):
        families.setdefault(task.name.partition("/")[0], []).append((task, r))
    found: dict[str, dict[str, Any]] = {}
    for family, members in families.items():
        means = {t.variant: r["score"] for t, r in members if t.variant and r["score"] is not None}
        values = members[0][0].averages(means)
        if not values:
            continue
        parts = _part_averages(members)
        complete = all(r["n_ok"] == r["n"] for _, r in members)
        names = {t.variant: t.name for t, _ in members if t.variant in means}
        strata = {variant: scores[name] for variant, name in names.items()}
        found[family] = {
            "values": values,
            "intervals": _intervals(members[0][0], strata, {v: contexts[name] for v, name in names.items()}),
            "complete": complete,
            "parts": parts,
            "verdict": members[0][0].verdict(parts),
        }
    return found


def _part_averages(members: Sequence[tuple[Task, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """The family's averages over each part that all its members have: a length, a bucket."""
    first, *others = (r["breakdown"] for _, r in members)
    common = [part for part in first if all(part in other for other in others)]
    found = {
        part: members[0][0].averages({t.variant: r["breakdown"][part] for t, r in members if t.variant})
        for part in common
    }
    return {part: values for part, values in found.items() if values}


def _intervals(
    task: Task, strata: Mapping[str, Sequence[float]], contexts: Mapping[str, Sequence[Hashable]]
) -> dict[str, tuple[float, float]] | None:
    """An interval for each average of a family, each over its own datasets; None with single samples.

    Which datasets an average takes, and how, is the family's own affair: it is asked what each of them moves.
    """
    if any(len(s) < 2 for s in strata.values()):
        return None
    means = {name: sum(s) / len(s) for name, s in strata.items()}
    values, found = task.averages(means), {}
    moved = {name: task.averages({**means, name: mean + STEP}) for name, mean in means.items()}
    for average, value in values.items():
        weights = {name: (moved[name][average] - value) / STEP for name in strata}
        taken = [name for name, weight in weights.items() if abs(weight) > STEP]
        interval = average_interval(
            [strata[name] for name in taken],
            [weights[name] for name in taken],
            clusters=[contexts[name] for name in taken],
            centre=value,
        )
        if interval is not None:
            found[average] = interval
    return found or None
