"""A forest of paired differences as SVG: a line for each run, an interval around its difference."""

from __future__ import annotations

from collections.abc import Iterator

from ..documents.figures import Difference, Forest
from ._svg import CHARACTER, WIDTH, Scale, drawing, short, tag, text, title

ROW, HEAD = 22, 24
COLOURS = {"better": "good", "worse": "bad"}


def forest(figure: Forest, width: float = WIDTH) -> str:
    """Groups one below the other: name of the run, interval, and in words what is told.

    On narrow paper the words stand above the interval, so that neither is cut.
    """
    wide = width > 500
    lines = [d for _, group in figure.groups for d in group]
    names = max((CHARACTER * len(d.label) for d in lines), default=0)
    left = min(220.0, names + 14) if wide else 10.0
    right = width - (176.0 if wide else 10.0)
    x = _scale(lines, left + 6, right - 6)
    parts: list[str] = []
    y = 6.0
    for name, group in figure.groups:
        parts.append(text(8, y + 15, name, "label"))
        y += HEAD
        for each in group:
            if not wide:
                parts.append(text(10, y + 12, f"{each.label}: {_words(each)}", "note"))
                y += 16
            parts += _line(each, x, y, wide, right)
            y += ROW
    height = y + 40
    axis = [
        part
        for value in x.ticks()
        for part in (
            tag("line", {"x1": x(value), "x2": x(value), "y1": 4, "y2": y, "class": "grid"}),
            text(x(value), y + 16, short(value).replace("-", "−"), "tick", "middle"),
        )
    ]
    axis.append(tag("line", {"x1": x(0), "x2": x(0), "y1": 4, "y2": y, "class": "axis"}))
    axis.append(text((left + right) / 2, y + 34, "difference to the baseline, points", "head", "middle"))
    said = f"{figure.description} " + "; ".join(
        f"{name}: " + ", ".join(f"{d.label} {_words(d)}" for d in group) for name, group in figure.groups
    )
    return drawing(figure.name, figure.title, said, height, *axis, *parts, width=width)


def _scale(lines: list[Difference], start: float, end: float) -> Scale:
    reach = max((abs(v) for d in lines for v in (d.value, *(d.interval or ()))), default=1.0)
    reach = min(100.0, max(5.0, 1.08 * reach))
    return Scale(-reach, reach, start, end)


def _line(each: Difference, x: Scale, y: float, wide: bool, right: float) -> Iterator[str]:
    middle, style = y + ROW / 2, COLOURS.get(each.told, "open")
    if wide:
        yield text(8, middle + 4, each.label, "tick")
        yield text(right + 10, middle + 4, _words(each, short_form=True), "note")
    marks = []
    if each.interval is not None:
        low, high = (x(max(x.low, min(x.high, v))) for v in each.interval)
        marks.append(
            tag("line", {"x1": low, "x2": high, "y1": middle, "y2": middle, "class": f"bar {style}"})
        )
    marks.append(tag("circle", {"cx": x(each.value), "cy": middle, "r": 4.5, "class": f"dot {style}"}))
    yield tag("g", {}, title(f"{each.label}: {_words(each)}"), *marks)


def _words(each: Difference, *, short_form: bool = False) -> str:
    value = f"{each.value:+.1f}".replace("-", "−")
    if short_form:
        return f"{value} {each.told}"
    spread = ""
    if each.interval is not None:
        spread = " [" + ", ".join(f"{v:+.1f}".replace("-", "−") for v in each.interval) + "]"
    return f"{value}{spread}, n {each.n}, {each.told}"
