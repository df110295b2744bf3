"""What the score of a run cost, for a sentence: compression, KV memory and time over one or several tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..contracts.record import SampleRecord
from ..contracts.run import LoadedRun


@dataclass(frozen=True)
class MeanCost:
    """Means over the finished samples of each task, then over the tasks by weight.

    Attributes
    ----------
    compression
        All prompt tokens over all KV entries that stood for them.
    verified
        Whether every sample's entries were seen in the model's forward pass.
    kv_bytes, seconds
        Of a sample. None, as `compression`, where a finished sample does not say.
    """

    compression: float | None = None
    verified: bool = True
    kv_bytes: float | None = None
    seconds: float | None = None


def mean_cost(run: LoadedRun, weights: Mapping[str, float]) -> MeanCost:
    """The mean cost of a run's samples over the tasks named, each with its weight."""
    finished = {task: [r for r in run.of_task(task).values() if r.finished] for task in weights}
    if not all(finished.values()):
        return MeanCost()

    def mean(pick: Callable[[SampleRecord], float | None]) -> float | None:
        total = 0.0
        for task, records in finished.items():
            values = [v for r in records if (v := pick(r)) is not None]
            if len(values) < len(records):
                return None
            total += weights[task] * sum(values) / len(values)
        return total / sum(weights.values())

    read = mean(lambda r: None if r.prompt_tokens is None else r.prompt_tokens - 1)
    kept = mean(lambda r: r.measured.kv_tokens)
    return MeanCost(
        read / kept if read and kept else None,
        all(r.measured.verified for records in finished.values() for r in records),
        mean(lambda r: r.cost.kv_bytes),
        mean(lambda r: r.cost.seconds),
    )
