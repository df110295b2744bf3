"""A suite that has passed every check: its runs, its fits, and how long they will take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..evaluation.settings import RunSettings
from ..evaluation.shared_samples import SharedSamples
from ..models.shared import SharedModels
from ..training.settings import FitSettings
from .matrix import Row, Spelled

if TYPE_CHECKING:
    from ..inference.throughput import Speed


State = Literal["new", "begun", "finished", "waits for a fit", "unavailable", "refused"]


@dataclass(frozen=True)
class PlannedFit:
    """A fit that cells wait for: its folder is named after all that it depends on, so it is run once."""

    name: str
    settings: FitSettings | None
    state: State
    why: str = ""
    base: str | None = None

    @property
    def folder(self) -> Path | None:
        return None if self.settings is None else self.settings.out


@dataclass(frozen=True)
class PlannedRun:
    """One run of a row before it starts.

    Attributes
    ----------
    folder
        None where it is not known yet: the adapter is still to be made.
    samples, done
        Samples asked for, and those that an earlier start has finished.
    tokens
        Prompt tokens of all samples after truncation.
    seconds
        Estimate for what is not done; None if nothing could be estimated.
    """

    settings: RunSettings
    state: State
    why: str = ""
    folder: Path | None = None
    samples: int = 0
    done: int = 0
    tokens: int = 0
    seconds: float | None = None
    same_as: str | None = None


@dataclass
class SuitePlan:
    """A suite with everything that could be checked checked."""

    spelled: Spelled
    rows: list[tuple[Row, list[PlannedRun]]]
    fits: dict[tuple[str, str], PlannedFit]
    speeds: dict[str, Speed] = field(default_factory=dict)
    models: SharedModels = field(default_factory=SharedModels)
    samples: SharedSamples = field(default_factory=SharedSamples)

    @property
    def seconds(self) -> float:
        """Of all runs that could be estimated."""
        return sum(run.seconds or 0.0 for _, runs in self.rows for run in runs)


def estimated(seconds: Iterable[float | None]) -> float | None:
    """Their sum; None if none is known."""
    known = [s for s in seconds if s is not None]
    return sum(known) if known else None
