"""The table a run ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .._util.units import GIB, MIB

if TYPE_CHECKING:
    from ..evaluation.plan import RunPlan


def percent(value: float | None) -> str:
    """A share 0..1 in percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.0f} %"


def number(value: float | None, form: str = ".1f", scale: float = 1.0) -> str:
    """`value` divided by `scale`; a dash for None."""
    return "–" if value is None else format(value / scale, form)


def score(value: float | None, interval: Sequence[float] | None, digits: int = 1) -> str:
    """A score ×100 with its interval: ``66.7 [20.8, 93.9]``."""
    if value is None:
        return "–"
    if interval is None:
        return f"{100 * value:.{digits}f}"
    return f"{100 * value:.{digits}f} [{100 * interval[0]:.{digits}f}, {100 * interval[1]:.{digits}f}]"


def _seen(row: dict[str, Any], name: str, form: str = ".1f", scale: float = 1.0) -> str:
    """What was measured; a question mark where answers came from elsewhere and nobody could measure it."""
    return "?" if row.get("remote") and row[name] is None else number(row[name], form, scale)


def _doubt(row: dict[str, Any]) -> str:
    return "?" if row["verified"] is False else ""


Column = tuple[str, Callable[[dict[str, Any]], str]]


SCORES: tuple[Column, ...] = (
    ("score [95 %]", lambda r: score(r["score"], r["interval"])),
    ("n ok", lambda r: f"[red]{r['n_ok']}/{r['n']}[/red]" if r["n_ok"] < r["n"] else f"{r['n_ok']}/{r['n']}"),
    ("cut", lambda r: percent(r["truncated"])),
    ("lost", lambda r: percent(r["answer_lost"])),
    ("at limit", lambda r: percent(r["hit_limit"])),
    ("tokens", lambda r: number(r["prompt_tokens"], ",.0f")),
    ("ratio", lambda r: "?" if r.get("remote") else number(r["compression"], ".2f") + _doubt(r)),
)
COSTS: tuple[Column, ...] = (
    ("KV MiB", lambda r: _seen(r, "kv_bytes", ".1f", MIB)),
    ("peak GiB", lambda r: _seen(r, "peak_bytes", ".2f", GIB)),
    ("compress s", lambda r: _seen(r, "compress_seconds")),
    ("prefill s", lambda r: _seen(r, "prefill_seconds")),
    ("decode s", lambda r: _seen(r, "decode_seconds")),
)
LEAST_NAME = 16
"""Terminal columns that the names in the first column have at least, where they are longer."""

NamedRow = tuple[str, dict[str, Any]]
"""What a row is called, and the summary of a task that it shows."""


def summary_table(summary: dict[str, Any], plan: RunPlan, width: int) -> RenderableType:
    """The table at the end of a run, with what a reader must know to believe it below."""
    rows = [(task_name(r), r) for r in summary["tasks"]]
    parts = [title(plan), *row_tables("task", rows, width), *averages(summary), *notes(summary, plan)]
    return Group(*parts)


def task_name(row: dict[str, Any]) -> str:
    """A task as its row is called: with its metric, if that has a name of its own."""
    return str(row["task"]) + (f" ({row['metric']})" if row["metric"] != "score" else "")


def row_tables(head: str, rows: Sequence[NamedRow], width: int) -> list[Table]:
    """Scores and costs in one table if `width` terminal columns hold it, else in as many as it takes.

    No number is ever broken in two; only a name that leaves no room for the numbers is.
    """
    names = max([len(head), *(Text(name).cell_len for name, _ in rows)])
    width -= 2  # the table's edges
    tables: list[Table] = []
    for group in [SCORES + COSTS] if _fits(SCORES + COSTS, rows, width - names) else [SCORES, COSTS]:
        widest = max(_width(column, rows) for column in group)
        room = width - min(names, max(LEAST_NAME, width - widest))
        left = list(group)
        while left:
            taken = next(n for n in range(len(left), 0, -1) if n == 1 or _fits(left[:n], rows, room))
            tables.append(_table(head, rows, left[:taken]))
            left = left[taken:]
    return tables


def _fits(columns: Sequence[Column], rows: Sequence[NamedRow], room: int) -> bool:
    return sum(_width(column, rows) for column in columns) <= room


def _width(column: Column, rows: Sequence[NamedRow]) -> int:
    """Terminal columns of the widest cell, with the three before it."""
    head, cell = column
    return 3 + max([len(head), *(Text.from_markup(cell(r)).cell_len for _, r in rows)])


def _table(head: str, rows: Sequence[NamedRow], columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(head, overflow="fold")
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for name, r in rows:
        table.add_row(escape(name), *(cell(r) for _, cell in columns))
    return table


def title(plan: RunPlan) -> str:
    """Method, model and window in one line."""
    window = plan.model.context_length
    return f"[bold]{escape(plan.settings.method)}[/bold] on {escape(plan.settings.model)} (window {window:,} tokens)"


def averages(summary: dict[str, Any]) -> list[RenderableType]:
    """One line for each family that has averages, and for each task that has a breakdown."""
    lines: list[RenderableType] = []
    for family, found in summary["averages"].items():
        intervals = found["intervals"] or {}
        values = "  ".join(f"{k} {score(v, intervals.get(k), digits=2)}" for k, v in found["values"].items())
        mark = "" if found["complete"] else "  (over finished samples only)"
        lines.append(Text(f"{family}: {values}{mark}"))
        for part, means in found.get("parts", {}).items():
            lines.append(
                Text(f"{family}, {part}: " + "  ".join(f"{k} {score(v, None, 2)}" for k, v in means.items()))
            )
        if found.get("verdict"):
            lines.append(Text(f"{family}: {found['verdict']}"))
    for r in summary["tasks"]:
        others = {k: v for k, v in r["scores"].items() if k != r["metric"]}
        if others:
            lines.append(Text(f"{r['task']}: " + "  ".join(f"{k} {100 * v:.1f}" for k, v in others.items())))
        if r["breakdown"]:
            values = "  ".join(f"{name} {100 * value:.1f}" for name, value in r["breakdown"].items())
            lines.append(Text(f"{r['task']} by part: {values}"))
    return lines


def notes(summary: dict[str, Any], plan: RunPlan) -> list[RenderableType]:
    """What must be said beside the numbers."""
    lines: list[RenderableType] = []
    if warning := plan.method.facts().get("warning"):
        lines.append(Text(f"note: {warning}", style="yellow"))
    if plan.method.protocol == "query-aware":
        lines.append(Text("note: this method sees the question while it compresses", style="yellow"))
    elif plan.method.sees_question:
        lines.append(
            Text("note: query-agnostic: the method compressed without seeing the question", style="yellow")
        )
    for reason in dict.fromkeys(plan.unavailable.values()):
        names = ", ".join(name for name, why in plan.unavailable.items() if why == reason)
        lines.append(Text(f"note: not asked: {names}: {reason}", style="yellow"))
    lines += [Text(f"note: {line}", style="yellow") for line in plan.data_notes]
    for r in summary["tasks"]:
        if r["shared"]:
            saved = f"{r['saved_seconds']:,.1f} s saved"
            lines.append(
                Text(
                    f"note: {r['task']}: {r['shared']} questions shared compressed contexts, {saved}",
                    style="dim",
                )
            )
        for said, count in r.get("notes", {}).items():
            text = f"note: {r['task']}: {said} ({count} of {r['n_ok']} samples)"
            lines.append(Text(text, style="yellow"))
        bad = {k: v for k, v in r["statuses"].items() if k != "ok"}
        if bad:
            what = ", ".join(f"{count} {name}" for name, count in bad.items())
            lines.append(
                Text(
                    f"note: {r['task']}: {what}; the score is over the {r['n_ok']} that finished", style="red"
                )
            )
    if plan.settings.batch_size != 1 or plan.model.dtype != "float32":
        asked = f"batch size {plan.settings.batch_size}, {plan.model.dtype}, {plan.model.device}"
        lines.append(
            Text(f"note: answered with {asked}; another of these may change some answers", style="dim")
        )
    if any(r["verified"] is False for r in summary["tasks"]):
        lines.append(
            Text("note: '?' after a ratio: the method declares it, no forward pass showed it", style="yellow")
        )
    lines.append(
        Text(
            "ratio = prompt tokens per KV entry the answer began from, measured; cut = share truncated "
            f"({plan.settings.truncate}); lost = answers that truncation removed; "
            "at limit = stopped by the token limit",
            style="dim",
        )
    )
    return lines
