"""Figures drawn with matplotlib, for notebooks and papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..documents.figures import Figure, Forest, HeatMap, Lines, Scatter
from ..documents.tables import Table
from ..errors import UsageError
from ._text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

COLOURS = {"better": "#1d6b3a", "worse": "#a82c1c"}
OPEN = "#67635c"
MARKS = "osD^vP*X"
STROKES = ("-", "--", ":")
MOST = 8
"""Names that a legend may have inside a figure; more stand below it."""


def draw(figure: Figure) -> Drawing:
    """The figure. Raises UsageError for a strip, which only a page has."""
    if isinstance(figure, Forest):
        lines = sum(1 + len(group) for _, group in figure.groups)
        drawing, axes = _new(figure.title, (7.5, 1.2 + 0.27 * lines))
        _forest(figure, axes)
    elif isinstance(figure, Scatter):
        drawing, axes = _new(figure.title, (7.5, 4.5 + 0.18 * max(0, len(figure.curves()) - 8)))
        _scatter(figure, axes)
        _legend(drawing, axes, len(figure.curves()))
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


def panels(figures: Sequence[Scatter], across: int, title: str) -> Drawing:
    """Several scatter plots as one drawing with one legend below, `across` side by side.

    Names are given out over all of them: what has one name has one mark everywhere.
    """
    from ._drawing import ShownFigure

    names = list(dict.fromkeys(curve.label for figure in figures for curve in figure.curves()))
    down = -(-len(figures) // across)
    drawing = ShownFigure((4.2 * across, 3.3 * down + 0.22 * -(-len(names) // 4) + 0.5))
    grid = drawing.subplots(down, across, squeeze=False)
    handles: dict[str, Any] = {}
    for figure, axes in zip(figures, grid.flat):
        axes.set_title(_safe(figure.title), fontsize="small", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        _scatter(figure, axes, names)
        handles.update({label: drawn for drawn, label in zip(*axes.get_legend_handles_labels())})
    for axes in list(grid.flat)[len(figures) :]:
        axes.set_axis_off()
    drawing.suptitle(_safe(title), fontsize="medium", x=0.01, ha="left")
    shown = [name for name in map(_safe, names) if name in handles]
    drawing.legend(
        [handles[n] for n in shown],
        shown,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize="small",
    )
    return drawing


def _legend(drawing: Drawing, axes: Axes, names: int) -> None:
    if names <= MOST:
        axes.legend(frameon=False, fontsize="small")
    else:
        drawing.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")


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


def _scatter(figure: Scatter, axes: Axes, names: Sequence[str] = ()) -> None:
    """Points, those of one curve joined; `names` says which style is whose, if others have a part in it."""
    curves = figure.curves()
    joined = any(len(c.points) > 1 for c in curves)
    for number, curve in enumerate(curves):
        i = names.index(curve.label) if names else number
        bars = [
            [
                [v - (ci[0] if ci else v) for v, ci in pairs],
                [(ci[1] if ci else v) - v for v, ci in pairs],
            ]
            for pairs in (
                [(p.x, p.x_interval) for p in curve.points],
                [(p.y, p.y_interval) for p in curve.points],
            )
        ]
        drawn = axes.errorbar(
            [p.x for p in curve.points],
            [p.y for p in curve.points],
            xerr=bars[0],
            yerr=bars[1],
            fmt=MARKS[i % len(MARKS)] + (STROKES[i % len(STROKES)] if len(curve.points) > 1 else ""),
            color=f"C{i % 10}",
            mfc="none" if curve.marked else None,
            capsize=0 if joined else 2,
            label=_safe(curve.label),
        )
        for bar in drawn[2]:  # intervals of many points lie on one another: the points come first
            bar.set_alpha(0.25 if joined else 1.0)
    frontier = figure.frontier()
    axes.step([p.x for p in frontier], [p.y for p in frontier], where="post", color=OPEN, ls=":")
    if figure.x.log:
        _logarithmic(axes)
    axes.set_xlabel(figure.x.head)
    axes.set_ylabel(figure.y.head)


def _logarithmic(axes: Axes) -> None:
    """A logarithmic x with plain numbers, few enough to be read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 1000 else (1.0, 3.0) if high / low > 30 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1000 else f"{v:g}"))


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
