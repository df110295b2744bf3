"""Heat maps and strips of intervals as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from ..documents.figures import HeatMap, Stretch, Strip
from ._svg import CHARACTER, WIDTH, colour, drawing, short, tag, text, title

TALL = 26
"""Height of a row of a heat map, and of a strip."""
CLAMP = 3.0
"""Standard deviations from which on relevance has the ends of the ramp, as allocation clamps it."""
HIGHEST = 10
"""log2 of the ratio that has the dark end of the ramp."""

Place = Callable[[float], float]
"""From a token to its place across the paper."""


def heat_map(figure: HeatMap, width: float = WIDTH) -> str:
    """Means in coloured cells with their numbers; a cell without samples is empty and says so."""
    left = 16 + max(34.0, CHARACTER * max(map(len, figure.rows)) + 20)
    wide = min(64.0, (width - left - 8) / len(figure.columns))
    top = 34
    parts = [
        text(left, 12, figure.x.head, "head"),
        text(
            12,
            top + TALL * len(figure.rows) / 2,
            figure.y.head,
            "head",
            "middle",
            transform=f"rotate(-90 12 {top + TALL * len(figure.rows) / 2:g})",
        ),
    ]
    every = math.ceil((CHARACTER * max(map(len, figure.columns)) + 6) / wide)
    for i, words in enumerate(figure.columns):
        if i % every == 0:
            parts.append(text(left + wide * (i + 0.5), top - 7, words, "tick", "middle"))
    for j, words in enumerate(figure.rows):
        y = top + TALL * j
        parts.append(text(left - 7, y + TALL / 2 + 4, words, "tick", "end"))
        parts += [_cell(figure, i, j, left + wide * i, y, wide) for i in range(len(figure.columns))]
    bottom = top + TALL * len(figure.rows)
    parts += _key(left, bottom + 18)
    said = f"{figure.description} {_grid_in_words(figure)}"
    return drawing(figure.name, figure.title, said, bottom + 44, *parts, width=width)


def _cell(figure: HeatMap, i: int, j: int, x: float, y: float, wide: float) -> str:
    value, count = figure.values[j][i], figure.counts[j][i]
    box = {"x": x, "y": y, "width": wide - 1, "height": TALL - 1.0}
    where = f"{figure.x.heading} {figure.columns[i]}, {figure.y.heading} {figure.rows[j]}"
    if value is None:
        said = title(f"{where}: no finished sample")
        return tag("g", {}, said, tag("rect", {**box, "class": "empty"}), _in(x, y, wide, "–", None))
    fill, ink = colour(value / 100)
    said = title(f"{where}: {value:.1f} over {count} samples")
    shown = f"{value:.0f}" if wide >= 22 else ""
    return tag("g", {}, said, tag("rect", {**box, "fill": fill}), _in(x, y, wide, shown, ink))


def _in(x: float, y: float, wide: float, words: str, ink: str | None) -> str:
    """Words in the middle of a cell; in `ink`, which suits the cell and not the page."""
    if not words:
        return ""
    return text(x + wide / 2 - 0.5, y + TALL / 2 + 4, words, "in" if ink else "tick", "middle", fill=ink)


def _key(x: float, y: float) -> Iterator[str]:
    """The ramp, with its ends."""
    yield text(x, y + 9, "0", "tick")
    for i in range(40):
        yield tag(
            "rect", {"x": x + 12 + 3.0 * i, "y": y, "width": 3.2, "height": 10, "fill": colour(i / 39)[0]}
        )
    yield text(x + 138, y + 9, "100", "tick")


def _grid_in_words(figure: HeatMap) -> str:
    return "; ".join(
        f"{figure.y.heading} {name}: " + ", ".join("none" if v is None else f"{v:.0f}" for v in row)
        for name, row in zip(figure.rows, figure.values)
    )


def strip(figure: Strip, width: float = WIDTH) -> str:
    """Boxes as wide as the intervals are long: relevance above (if known), ratio below, the answer marked."""
    stretches = figure.stretches
    total = max(s.end for s in stretches)
    left, right = (76.0 if width > 500 else 62.0), width - 8.0

    def place(token: float) -> float:
        return left + (right - left) * token / total

    looked = any(s.relevance is not None for s in stretches)
    tops = {"relevance": 30.0, "ratio": 30.0 + (TALL + 3) * looked}
    bottom = tops["ratio"] + TALL
    parts = []
    if looked:
        parts += [_box(s, place, tops["relevance"], *_relevance(s)) for s in stretches]
        parts.append(text(left - 8, tops["relevance"] + 17, "relevance", "tick", "end"))
    parts += [_box(s, place, tops["ratio"], *_ratio(s)) for s in stretches]
    parts.append(text(left - 8, tops["ratio"] + 17, "ratio", "tick", "end"))
    parts += _answer(figure, place, 30.0, bottom, width)
    parts += _tokens(total, place, bottom + 14)
    explained = _explained(looked) if width > 500 else []
    for i, line in enumerate(explained):
        parts.append(text(left, bottom + 34 + 14 * i, line, "note"))
    height = bottom + 28 + 14 * len(explained)
    return drawing(
        figure.name,
        figure.title,
        f"{figure.description} {_in_words(figure)}",
        height,
        *parts,
        width=width,
    )


def _box(stretch: Stretch, place: Place, top: float, share: float | None, words: str, said: str) -> str:
    x, wide = place(stretch.start), place(stretch.end) - place(stretch.start)
    box = {"x": x, "y": top, "width": max(0.6, wide - 1), "height": TALL}
    shown = words if CHARACTER * len(words) + 2 <= wide else ""
    told = title(f"tokens {stretch.start:,}–{stretch.end:,}: {said}")
    if share is None:
        return tag("g", {}, told, tag("rect", {**box, "class": "empty"}), _in(x, top, wide, shown, None))
    fill, ink = colour(share)
    return tag("g", {}, told, tag("rect", {**box, "fill": fill}), _in(x, top, wide, shown, ink))


def _relevance(s: Stretch) -> tuple[float | None, str, str]:
    """Share of the ramp, words in the box, words about it."""
    if s.relevance is None:
        return None, "", "not looked at"
    if s.z is None:
        return s.relevance, f"{100 * s.relevance:.0f}", f"relevance {100 * s.relevance:.1f} %"
    clamped = min(max(s.z, -CLAMP), CLAMP)
    said = f"relevance {s.z:+.2f} standard deviations, {100 * s.relevance:.1f} % of the whole"
    return (clamped + CLAMP) / (2 * CLAMP), f"{clamped:+.1f}".replace("-", "−"), said


def _ratio(s: Stretch) -> tuple[float | None, str, str]:
    kept = f"{s.kept:,} KV entries for {s.end - s.start:,} tokens"
    if s.ratio is None:
        return None, "open", f"read as it is after the last interval: {kept}"
    if s.ratio == 0:
        return 1.0, "raw", f"kept as it is: {kept}"
    return (
        0.9 * (1 - min(math.log2(max(1, s.ratio)), HIGHEST) / HIGHEST),
        str(s.ratio),
        f"ratio {s.ratio}: {kept}",
    )


def _answer(figure: Strip, place: Place, top: float, bottom: float, width: float) -> Iterator[str]:
    """A marker at the answer's token, and a frame around the interval that holds it."""
    holder = figure.holder()
    if holder is None or figure.answer is None:
        yield text(width - 8, 14, "where the answer stands is not known", "note", "end")
        return
    s, x = figure.stretches[holder], place(figure.answer)
    dashes = "4 3" if figure.estimated else None
    frame = {
        "x": place(s.start) - 1.5,
        "y": top - 2,
        "width": place(s.end) - place(s.start) + 2,
        "height": bottom - top + 4,
    }
    yield tag("rect", {**frame, "class": "frame", "stroke-dasharray": dashes})
    yield tag("path", {"d": f"M{x:.1f} {top - 3:.1f}l-5 -8h10z", "class": "pointer"})
    words = f"answer {'about ' if figure.estimated else ''}here, token {figure.answer:,}"
    half = CHARACTER * len(words) / 2
    yield text(min(max(x, half + 4), width - half - 4), top - 16, words, "label", "middle")


def _tokens(total: int, place: Place, y: float) -> Iterator[str]:
    shares = (0.0, 0.25, 0.5, 0.75, 1.0) if place(total) - place(0) > 400 else (0.0, 0.5, 1.0)
    for share in shares:
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        words = f"{share * total:,.0f}" + (" tokens" if share == 1 else "")
        yield text(place(share * total), y, words, "tick", anchor)


def _explained(looked: bool) -> list[str]:
    above = "Above: standard deviations from the usual, bright is relevant."
    return [above] * looked + ["Ratio: tokens for one KV entry, bright is kept whole."]


def _in_words(figure: Strip) -> str:
    """The strip for those who do not see it."""
    ratios = ", ".join(
        "open" if s.ratio is None else "raw" if s.ratio == 0 else short(s.ratio) for s in figure.stretches
    )
    holder = figure.holder()
    where = (
        "not known" if holder is None else f"{'about ' if figure.estimated else ''}in interval {holder + 1}"
    )
    return f"Ratios in order: {ratios}. The answer: {where}."
