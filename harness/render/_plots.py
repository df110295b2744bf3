"""Scatter plots and lines as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..documents.figures import Curve, Interval, Lines, Point, Scatter
from ._svg import (
    CHARACTER,
    LINE,
    STYLES,
    WIDTH,
    Box,
    Scale,
    drawing,
    mark,
    place_label,
    short,
    spread,
    tag,
    text,
    title,
)

LEFT, TOP, BOTTOM = 54, 14, 330
MOST = 8
"""Points from which a legend has the names, where labels would stand on one another."""
CROWD = 40
"""Names from which not each stands in the legend."""
BANDS = 4
"""Lines up to which intervals are bands; those of more are whiskers side by side."""
HEIGHT = BOTTOM + 46
SCORES = (0.0, 100.0)


def scatter(figure: Scatter, width: float = WIDTH) -> str:
    """Points with whiskers and labels, those of one curve joined, and the frontier as a stepped line."""
    points, curves, right = figure.points, figure.curves(), width - 16
    xs = [v for p in points for v in (p.x, *(p.x_interval or ()))]
    ys = [v for p in points for v in (p.y, *(p.y_interval or ()))]
    log = figure.x.log and min(xs) > 0
    x = spread(xs, LEFT + 8, right, log=log, bounds=(0.0, float("inf")))
    y = spread(ys, BOTTOM, TOP, log=False, bounds=SCORES)
    parts = [*_axes(x, y, right, figure.x.head + (" (log)" if log else ""), figure.y.head)]
    frontier = figure.frontier()
    if len(frontier) > 1:
        path = f"M{x(frontier[0].x):.1f} {y(frontier[0].y):.1f}"
        path += "".join(f"H{x(p.x):.1f}V{y(p.y):.1f}" for p in frontier[1:])
        parts.append(tag("path", {"d": path, "class": "frontier"}, title("frontier")))
    taken = [Box(x(p.x) - 7, y(p.y) - 7, x(p.x) + 7, y(p.y) + 7) for p in points]
    for p in points:  # whiskers are in the way of labels too
        if p.x_interval:
            taken.append(Box(x(p.x_interval[0]), y(p.y) - 2, x(p.x_interval[1]), y(p.y) + 2))
        if p.y_interval:
            taken.append(Box(x(p.x) - 2, y(p.y_interval[1]), x(p.x) + 2, y(p.y_interval[0])))
    taken += [box for a, b in pairwise(frontier) for box in _steps(x(a.x), y(a.y), x(b.x), y(b.y))]
    room = Box(LEFT, 2, width, BOTTOM)
    parts += [part for p in points for part in _whiskers(p, x, y)]
    parts += [
        tag("path", {"d": _through(c.points, x, y), "class": f"line s{i % STYLES} dash{i % 4}"})
        for i, c in enumerate(curves)
        if len(c.points) > 1
    ]
    parts += [
        tag("g", {}, title(_told(p, figure)), mark(i, x(p.x), y(p.y), hollow=p.marked))
        for i, c in enumerate(curves)
        for p in c.points
    ]
    legend, drop = _names(curves, x, y, taken, room, parts, right, frontier)
    whole = tag("g", {"transform": f"translate(0 {drop:g})"}, *parts) if legend else "".join(parts)
    said = f"{figure.description} {_all(figure)}"
    return drawing(figure.name, figure.title, said, HEIGHT + drop, *legend, whole, width=width)


def _through(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """The path of a line from each point to the next."""
    return "M" + "L".join(f"{x(p.x):.1f} {y(p.y):.1f}" for p in points)


def _names(
    curves: Sequence[Curve],
    x: Scale,
    y: Scale,
    taken: list[Box],
    room: Box,
    parts: list[str],
    right: float,
    frontier: Sequence[Point],
) -> tuple[list[str], float]:
    """A label beside each point; of many, of joined ones, or of a narrow figure, a legend above and its height.

    Of a crowd the legend names the first, which is the baseline, and those of the frontier.
    """
    if len(curves) <= MOST and right > 500 and all(len(c.points) == 1 for c in curves):
        for i, curve in enumerate(curves):
            [p] = curve.points
            parts += _label(i, p, x(p.x), y(p.y), taken, room)
        return [], 0.0
    best = {id(p) for p in frontier}
    named = [
        (i, c.label + (" †" if c.marked else ""), c.marked)
        for i, c in enumerate(curves)
        if len(curves) <= CROWD or i == 0 or any(id(p) in best for p in c.points)
    ]
    legend, used = _legend(named, right)
    if left := len(curves) - len(named):
        used += LINE + 3
        legend.append(text(LEFT, used, f"and {left} more: a mark tells its name when pointed at", "note"))
    return legend, used + 6


def lines(figure: Lines, width: float = WIDTH) -> str:
    """A line with marks and a band for each series; the legend above says which is which."""
    right = width - 16
    named = [
        (i, s.label + (" †" if s.marked else ""), s.marked) for i, s in enumerate(figure.series) if s.points
    ]
    legend, used = _legend(named, right)
    drop = used + 6
    xs = [x for s in figure.series for x, _, _ in s.points]
    ys = [v for s in figure.series for _, y, ci in s.points for v in (y, *(ci or ()))]
    log = figure.x.log and min(xs) > 0 and max(xs) > 4 * min(xs)
    x = spread(xs, LEFT + 8, right, log=log, bounds=(0.0, float("inf")))
    y = spread(ys, BOTTOM, TOP, log=False, bounds=SCORES)
    parts = list(_axes(x, y, right, figure.x.head, figure.y.head, figure.ticks))
    for i, series in enumerate(figure.series):
        spans = [(x(a), ci) for a, _, ci in series.points]
        if len(figure.series) <= BANDS:
            parts += _band(i, spans, y)
        else:
            aside = 3.0 * (i - (len(figure.series) - 1) / 2)
            parts += [part for place, ci in spans for part in _band(i, [(place + aside, ci)], y)]
    for i, series in enumerate(figure.series):
        path = "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b, _ in series.points)
        parts.append(tag("path", {"d": path, "class": f"line s{i % 8} dash{i % 4}"}))
        for a, b, ci in series.points:
            said = f"{series.label}: {b:.1f}{_bounds(ci)} at {short(a)}"
            parts.append(tag("g", {}, title(said), mark(i, x(a), y(b), hollow=series.marked, size=4)))
    moved = tag("g", {"transform": f"translate(0 {drop})"}, *parts)
    return drawing(figure.name, figure.title, figure.description, HEIGHT + drop, *legend, moved, width=width)


def _axes(
    x: Scale, y: Scale, right: float, below: str, beside: str, named: Sequence[tuple[float, str]] = ()
) -> Iterator[str]:
    for value in y.ticks():
        yield tag("line", {"x1": LEFT, "x2": right, "y1": y(value), "y2": y(value), "class": "grid"})
        yield text(LEFT - 7, y(value) + 4, short(value), "tick", "end")
    until = 0.0
    for value, words in named or [(v, short(v)) for v in x.ticks()]:
        place, half = x(value), CHARACTER * len(words) / 2
        yield tag("line", {"x1": place, "x2": place, "y1": BOTTOM, "y2": BOTTOM + 5, "class": "axis"})
        if place - half > until:  # a tick whose number has no room stands without it
            yield text(place, BOTTOM + 19, words, "tick", "middle")
            until = place + half + 6
    yield tag("line", {"x1": LEFT, "x2": right, "y1": BOTTOM, "y2": BOTTOM, "class": "axis"})
    yield text(right, BOTTOM + 38, below, "head", "end")
    yield text(
        14, (TOP + BOTTOM) / 2, beside, "head", "middle", transform=f"rotate(-90 14 {(TOP + BOTTOM) / 2})"
    )


def _steps(x1: float, y1: float, x2: float, y2: float) -> tuple[Box, Box]:
    """Where a step of the frontier runs: across, then up."""
    return Box(x1, y1 - 2, x2, y1 + 2), Box(x2 - 2, min(y1, y2), x2 + 2, max(y1, y2))


def _whiskers(p: Point, x: Scale, y: Scale) -> Iterator[str]:
    if p.y_interval:
        low, high = (y(v) for v in p.y_interval)
        yield tag("line", {"x1": x(p.x), "x2": x(p.x), "y1": low, "y2": high, "class": "whisker"})
    if p.x_interval:
        low, high = (x(v) for v in p.x_interval)
        yield tag("line", {"x1": low, "x2": high, "y1": y(p.y), "y2": y(p.y), "class": "whisker"})


def _label(number: int, p: Point, x: float, y: float, taken: list[Box], room: Box) -> Iterator[str]:
    words = p.label if len(p.label) <= 34 else f"{p.label[:33]}…"
    words += " †" if p.marked else ""
    left, base, box = place_label(x, y, words, taken, room)
    near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    if (near_x - x) ** 2 + (near_y - y) ** 2 > 15**2:  # far away: a line says whose label it is
        yield tag("line", {"x1": x, "y1": y, "x2": near_x, "y2": near_y, "class": "leader"})
    yield text(left, base, words, f"label t{number % 8}")


def _legend(named: Sequence[tuple[int, str, bool]], right: float) -> tuple[list[str], float]:
    """Marks with names in as many lines as they need, and the height of them."""
    parts, x, y = [], float(LEFT), 12.0
    for number, words, hollow in named:
        wide = 26 + CHARACTER * len(words)
        if x > LEFT and x + wide > right:
            x, y = float(LEFT), y + LINE + 3
        parts += [mark(number, x + 6, y - 4, hollow=hollow, size=4), text(x + 16, y, words, "label")]
        x += wide
    return parts, y


def _band(number: int, points: Sequence[tuple[float, Interval]], y: Scale) -> Iterator[str]:
    known = [(x, ci) for x, ci in points if ci is not None]
    if not known:
        return
    if len(known) == 1:
        [(x, (low, high))] = known
        yield tag("line", {"x1": x, "x2": x, "y1": y(low), "y2": y(high), "class": "whisker"})
        return
    upper = [f"{x:.1f} {y(ci[1]):.1f}" for x, ci in known]
    lower = [f"{x:.1f} {y(ci[0]):.1f}" for x, ci in reversed(known)]
    yield tag("path", {"d": f"M{'L'.join(upper + lower)}z", "class": f"band s{number % 8}"})


def _told(p: Point, figure: Scatter) -> str:
    unit = f" {figure.x.unit}" if figure.x.unit else ""
    return f"{p.label}: {p.y:.1f}{_bounds(p.y_interval)} at {short(p.x)}{_bounds(p.x_interval)}{unit}"


def _bounds(interval: Interval) -> str:
    return "" if interval is None else f" [{interval[0]:.1f}, {interval[1]:.1f}]"


def _all(figure: Scatter) -> str:
    """Every point in words."""
    return "; ".join(_told(p, figure) for p in figure.points) + "."
