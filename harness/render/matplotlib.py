"""Figures drawn with matplotlib, for notebooks and papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..documents.figures import Figure, Forest, HeatMap, Lines, Scatter
from ..documents.tables import Table
from ..errors import UsageError
from ._text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

COLOURS = {"better": "#1d6b3a", "worse": "#a82c1c"}
OPEN = "#67635c"


def draw(figure: Figure) -> Drawing:
    """The figure. Raises UsageError for a strip, which only a page has."""
    if isinstance(figure, Forest):
        lines = sum(1 + len(group) for _, group in figure.groups)
        drawing, axes = _new(figure.title, (7.5, 1.2 + 0.27 * lines))
        _forest(figure, axes)
    elif isinstance(figure, Scatter):
        drawing, axes = _new(figure.title)
        _scatter(figure, axes)
    elif isinstance(figure, Lines):
        drawing, axes = _new(figure.title)
        _lines(figure, axes)
    elif isinstance(figure, HeatMap):
        drawing, axes = _new(figure.title)
        _heat(figure, axes)
    else:
        raise UsageError("strips of intervals are drawn on a page only: save('report.html')")
    return drawing


def scores(made: Table) -> Drawing:
    """A table of scores as points with intervals: tasks across, a colour for each run."""
    columns = [c for c in made.columns if c.kind == "number"]
    drawing, axes = _new(made.title)
    step = 0.7 / max(1, len(made.rows))
    for i, row in enumerate(made.rows):
        known = [(j, c) for j, column in enumerate(columns) if (c := row.cell(column)).value is not None]
        if not known:
            continue
        x = [j + step * (i - (len(made.rows) - 1) / 2) for j, _ in known]
        y = [float(c.value) for _, c in known]  # type: ignore[arg-type]
        low = [v - (c.interval[0] if c.interval else v) for v, (_, c) in zip(y, known)]
        high = [(c.interval[1] if c.interval else v) - v for v, (_, c) in zip(y, known)]
        axes.errorbar(
            x, y, yerr=[low, high], fmt="o", capsize=3, label=_safe(str(row.cell(made.columns[0]).value))
        )
    axes.set_xticks(range(len(columns)), [_safe(c.heading) for c in columns], rotation=20, ha="right")
    axes.set_ylabel("score × 100")
    axes.set_ylim(-3, 103)
    axes.legend(frameon=False, fontsize="small")
    return drawing


def _new(title: str, size: tuple[float, float] = (7.5, 4.5)) -> tuple[Drawing, Axes]:
    from ._drawing import ShownFigure

    drawing = ShownFigure(size)
    axes = drawing.add_subplot()
    axes.set_title(_safe(title), fontsize="medium", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return drawing, axes


def _forest(figure: Forest, axes: Axes) -> None:
    names: list[str] = []
    for name, group in figure.groups:
        names.append(_safe(name))
        for each in group:
            y, colour = len(names), COLOURS.get(each.told, OPEN)
            if each.interval:
                axes.plot(each.interval, [y, y], color=colour, lw=2)
            axes.plot([each.value], [y], "o", color=colour)
            names.append(f"{_safe(each.label)}: {each.told}")
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("difference to the baseline, points")


def _scatter(figure: Scatter, axes: Axes) -> None:
    for i, p in enumerate(figure.points):
        x, y = (
            None if bounds is None else [[value - bounds[0]], [bounds[1] - value]]
            for value, bounds in ((p.x, p.x_interval), (p.y, p.y_interval))
        )
        fill = "none" if p.marked else None
        axes.errorbar(
            [p.x], [p.y], xerr=x, yerr=y, fmt="osD^v"[i % 5], mfc=fill, capsize=2, label=_safe(p.label)
        )
    frontier = figure.frontier()
    axes.step([p.x for p in frontier], [p.y for p in frontier], where="post", color=OPEN, ls=":")
    if figure.x.log:
        axes.set_xscale("log")
    axes.set_xlabel(figure.x.head)
    axes.set_ylabel(figure.y.head)
    axes.legend(frameon=False, fontsize="small")


def _lines(figure: Lines, axes: Axes) -> None:
    for series in figure.series:
        x, y = [p[0] for p in series.points], [p[1] for p in series.points]
        low = [v - (p[2][0] if p[2] else v) for v, p in zip(y, series.points)]
        high = [(p[2][1] if p[2] else v) - v for v, p in zip(y, series.points)]
        axes.errorbar(x, y, yerr=[low, high], fmt="o-", capsize=2, label=_safe(series.label))
    if figure.x.log:
        axes.set_xscale("log")
    if figure.ticks:
        axes.set_xticks([v for v, _ in figure.ticks], [words for _, words in figure.ticks])
        axes.minorticks_off()
    axes.set_xlabel(figure.x.head)
    axes.set_ylabel(figure.y.head)
    axes.legend(frameon=False, fontsize="small")


def _heat(figure: HeatMap, axes: Axes) -> None:
    values = [[float("nan") if v is None else v for v in row] for row in figure.values]
    image = axes.imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(figure.columns)), list(figure.columns))
    axes.set_yticks(range(len(figure.rows)), list(figure.rows))
    axes.set_xlabel(figure.x.head)
    axes.set_ylabel(figure.y.head)
    axes.figure.colorbar(image, ax=axes, label="score × 100")


def _safe(text: str) -> str:
    return visible(text, one_line=True).replace("$", r"\$")
