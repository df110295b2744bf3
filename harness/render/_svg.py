"""What our figures share: elements, scales, ticks, colours, marks, and labels that keep out of each other's way.

Colours of lines and text are classes that the page's style sheet sets for light and dark; only heat maps have
colours of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from ._text import visible

WIDTH = 640
NARROW = 340
"""Width of the same figure as it is drawn for a phone, where text must not be scaled down."""
CHARACTER = 6.4
"""Width of a character of a label, about, in the drawing's units."""
LINE = 15
"""Height of a line of text."""
STYLES = 8
"""Series that have a colour and mark of their own; further ones begin again."""
_RAMP = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
"""Viridis at nine steps (CC0, by Smith and van der Walt): even in lightness, told apart by the colour-blind."""


def tag(name: str, attributes: dict[str, object], *children: str) -> str:
    """An element; attributes are escaped, children are markup."""
    shown = "".join(f' {k}="{escape(_number(v))}"' for k, v in attributes.items() if v is not None)
    return f"<{name}{shown}>{''.join(children)}</{name}>" if children else f"<{name}{shown}/>"


def text(x: float, y: float, words: str, cls: str = "", anchor: str = "start", **more: object) -> str:
    """A line of text, made harmless."""
    fixed = {"x": x, "y": y, "class": cls or None, "text-anchor": None if anchor == "start" else anchor}
    return tag("text", {**fixed, **more}, escape(visible(words, one_line=True)))


def title(words: str) -> str:
    """What an element says to a pointer or a screen reader."""
    return tag("title", {}, escape(visible(words, one_line=True)))


def drawing(
    name: str, heading: str, description: str, height: float, *children: str, width: float = WIDTH
) -> str:
    """A whole figure, with a title and description for those who do not see it."""
    attributes: dict[str, object] = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-labelledby": f"{name}-t {name}-d",
        "class": "figure",
    }
    words = [visible(words, one_line=True) for words in (heading, description)]
    head = [
        tag(kind, {"id": f"{name}-{kind[0]}"}, escape(said)) for kind, said in zip(("title", "desc"), words)
    ]
    return tag("svg", attributes, *head, *children)


def _number(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def colour(share: float) -> tuple[str, str]:
    """Fill for 0..1 on the ramp, and the text colour that can be read on it."""
    place = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    low = min(int(place), len(_RAMP) - 2)
    ends = [[int(_RAMP[i][j : j + 2], 16) for j in (0, 2, 4)] for i in (low, low + 1)]
    mixed = [round(a + (b - a) * (place - low)) for a, b in zip(*ends)]
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in mixed]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # The darker of white and black text by contrast ratio (WCAG 2): the two are equal at 0.179.
    return "#" + "".join(f"{c:02x}" for c in mixed), "#ffffff" if luminance < 0.179 else "#000000"


@dataclass(frozen=True)
class Scale:
    """From values to places on the paper, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, v = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (v - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers within the scale, about five."""
        if self.log:
            return self._log_ticks()
        raw = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _log_ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            found = [m * 10.0**d for d in decades for m in steps if self.low <= m * 10.0**d <= self.high]
            if len(found) >= 3:
                return found if len(found) <= 9 else found[:: math.ceil(len(found) / 9)]
        return Scale(self.low, self.high, self.start, self.end).ticks()


def spread(
    values: Sequence[float], start: float, end: float, *, log: bool, bounds: tuple[float, float]
) -> Scale:
    """A scale with some air around `values`, not beyond `bounds`; a single value stands in its middle."""
    low, high = min(values), max(values)
    if log:
        factor = max((high / low) ** 0.08, 1.12)
        return Scale(low / factor, high * factor, start, end, True)
    if high - low < 1e-9 and math.isfinite(bounds[0]) and math.isfinite(bounds[1]):
        return Scale(bounds[0], bounds[1], start, end)  # all alike, as scores that are all 0: the whole range
    pad = max((high - low) * 0.08, 1e-9 + abs(high) * 0.05, 1e-6)
    low, high = max(low - pad, bounds[0]), min(high + pad, bounds[1])
    return Scale(low, high if high > low else low + 1, start, end)


def short(value: float) -> str:
    """A tick's number: 0.5, 20, 1,500."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def mark(number: int, x: float, y: float, *, hollow: bool = False, size: float = 5) -> str:
    """The mark of a series: shape and colour both tell it apart; hollow for those that see the question."""
    s, t = size, size * 1.3
    shapes: tuple[Callable[[], str], ...] = (
        lambda: f"M{x - s:.1f} {y:.1f}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0z",
        lambda: f"M{x - s * 0.88:.1f} {y - s * 0.88:.1f}h{s * 1.76:.1f}v{s * 1.76:.1f}h{-s * 1.76:.1f}z",
        lambda: f"M{x:.1f} {y - t:.1f}l{t:.1f} {t:.1f}l{-t:.1f} {t:.1f}l{-t:.1f} {-t:.1f}z",
        lambda: f"M{x:.1f} {y - s * 1.2:.1f}l{s * 1.2:.1f} {s * 2.1:.1f}h{-s * 2.4:.1f}z",
        lambda: f"M{x:.1f} {y + s * 1.2:.1f}l{s * 1.2:.1f} {-s * 2.1:.1f}h{-s * 2.4:.1f}z",
    )
    style = f"s{number % STYLES} " + ("hollow" if hollow else "solid")
    return tag("path", {"d": shapes[number % len(shapes)](), "class": style})


@dataclass(frozen=True)
class Box:
    """A rectangle that something stands in."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def place_label(x: float, y: float, words: str, taken: list[Box], room: Box) -> tuple[float, float, Box]:
    """Where the label of the point (x, y) goes: left edge, base line, and its box, which joins `taken`.

    Beside the point if there is room, else ever farther away; what nothing can avoid overlaps the least.
    """
    width = CHARACTER * len(words)
    best: tuple[float, float, Box] | None = None
    best_cost = math.inf
    for ring in range(12):
        reach = 10 + 11 * ring
        sides = [(8, -reach + 3), (reach, 4), (8, reach + 6), (-width - 8, -reach + 3), (-reach - width, 4)]
        sides += [(-width - 8, reach + 6), (-width / 2, -reach), (-width / 2, reach + 8)]
        for dx, dy in sides:
            box = Box(x + dx - 2, y + dy - 11, x + dx + width + 2, y + dy + 4)
            inside = box.overlap(room) / ((box.right - box.left) * (box.bottom - box.top))
            cost = sum(box.overlap(other) for other in taken) + 10_000 * (1 - inside) + ring
            if cost < best_cost - 1e-9:
                best, best_cost = (x + dx, y + dy, box), cost
        if best_cost < ring + 1:
            break
    assert best is not None
    taken.append(best[2])
    return best
