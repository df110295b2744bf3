"""Figures as data, like `harness.documents.tables`: what is drawn, not how. And the document that holds both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Axis:
    """What an axis says, and whether it is drawn on a logarithmic scale (only if all its values are > 0)."""

    heading: str
    unit: str = ""
    log: bool = False

    @property
    def head(self) -> str:
        """The heading with its unit."""
        return f"{self.heading}, {self.unit}" if self.unit else self.heading


@dataclass(frozen=True)
class Point:
    """A labelled point with the 95 % intervals of both its values; `marked` ones see the question.

    Points of one `curve` are joined, and share a mark and a name; a point without one stands alone.
    """

    label: str
    x: float
    y: float
    x_interval: Interval = None
    y_interval: Interval = None
    marked: bool = False
    curve: str = ""


@dataclass(frozen=True)
class Curve:
    """What a scatter plot names once: a point that stands alone, or the points of one curve in their order."""

    label: str
    points: Sequence[Point]

    @property
    def marked(self) -> bool:
        """Whether its points see the question."""
        return any(p.marked for p in self.points)


@dataclass(frozen=True)
class Scatter:
    """Score against cost. Its frontier: the points that none beats in both, by their means."""

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    points: Sequence[Point]

    def frontier(self) -> list[Point]:
        """From the cheapest on, each point that scores more than all that cost less. Lower x is better."""
        found: list[Point] = []
        for point in sorted(self.points, key=lambda p: (p.x, -p.y)):
            if not found or point.y > found[-1].y:
                found.append(point)
        return found

    def curves(self) -> list[Curve]:
        """The points under the names that a legend has, in the order in which they first come."""
        found: dict[tuple[str, int], list[Point]] = {}
        for i, point in enumerate(self.points):
            found.setdefault((point.curve, -1) if point.curve else ("", i), []).append(point)
        return [Curve(name or points[0].label, points) for (name, _), points in found.items()]


@dataclass(frozen=True)
class Series:
    """One line: x, y and y's interval at each of its points, by rising x."""

    label: str
    points: Sequence[tuple[float, float, Interval]]
    marked: bool = False


@dataclass(frozen=True)
class Lines:
    """Scores over a quantity, a line for each run, with interval bands. `ticks` names the places on x."""

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    ticks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class HeatMap:
    """Means over a grid, 0..100. ``values[y][x]`` is None where there is no finished sample; `counts` alike."""

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[float | None]]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Stretch:
    """An interval of a context as a method read it.

    Attributes
    ----------
    start, end
        Tokens of the prompt, ``[start, end)``.
    kept
        KV entries that stand for it.
    ratio
        Tokens an entry stands for; 0: kept as it is. None for what is read raw after the last interval.
    relevance, z
        What the method found it worth: the share of attention, and that in standard deviations; None if it
        did not look.
    """

    start: int
    end: int
    kept: int
    ratio: int | None
    relevance: float | None = None
    z: float | None = None


@dataclass(frozen=True)
class Strip:
    """The context of one sample, interval by interval: where the method looked, and what it kept.

    `answer` is the token at which an accepted answer first stands; `estimated` if that is only known from the
    depth it was put at; None if it is not known.
    """

    name: str
    title: str
    description: str
    stretches: Sequence[Stretch]
    answer: int | None = None
    estimated: bool = False

    def holder(self) -> int | None:
        """The number of the stretch that holds the answer, counted from 0."""
        if self.answer is None:
            return None
        return next((i for i, s in enumerate(self.stretches) if s.start <= self.answer < s.end), None)


@dataclass(frozen=True)
class Difference:
    """A line of a forest: a run's difference to the baseline in points, its interval, what is told, of how many."""

    label: str
    value: float
    interval: Interval
    told: str
    n: int


@dataclass(frozen=True)
class Forest:
    """Paired differences with their intervals, a group for each task; to the right of 0 is better."""

    name: str
    title: str
    description: str
    groups: Sequence[tuple[str, Sequence[Difference]]]


Figure = Scatter | Lines | HeatMap | Strip | Forest


def positive(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale can show them all."""
    return all(v > 0 and math.isfinite(v) for v in values)
