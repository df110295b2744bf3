"""The table a run ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from .._util.units import GIB, MIB
from ..documents import Cell, Column, Mark, Row, Table
from ..evaluation.collecting import left_out_in_words
from ..render import terminal

if TYPE_CHECKING:
    from ..evaluation.plan import RunPlan


def percent(value: float | None) -> str:
    """A share 0..1 in percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.0f} %"


def score(value: float | None, interval: Sequence[float] | None, digits: int = 1) -> str:
    """A score ×100 with its interval: ``66.7 [20.8, 93.9]``."""
    if value is None:
        return "–"
    if interval is None:
        return f"{100 * value:.{digits}f}"
    return f"{100 * value:.{digits}f} [{100 * interval[0]:.{digits}f}, {100 * interval[1]:.{digits}f}]"


Measured = tuple[Column, Callable[[dict[str, Any]], Cell]]
"""A column, and its cell from a task's summary."""


def _score(r: dict[str, Any]) -> Cell:
    if r["score"] is None or r["interval"] is None:
        return Cell(None if r["score"] is None else 100 * r["score"])
    return Cell(100 * r["score"], (100 * r["interval"][0], 100 * r["interval"][1]))


def _share(key: str) -> Callable[[dict[str, Any]], Cell]:
    return lambda r: Cell(r[key], text=percent(r[key]))


def _scaled(key: str, scale: float = 1.0) -> Callable[[dict[str, Any]], Cell]:
    return lambda r: Cell(None if r[key] is None else r[key] / scale)


def _seen(key: str, scale: float = 1.0) -> Callable[[dict[str, Any]], Cell]:
    """What was measured; a question mark where answers came from elsewhere and nobody could measure it."""
    return lambda r: Cell(text="?") if r.get("remote") and r[key] is None else _scaled(key, scale)(r)


def _ratio(r: dict[str, Any]) -> Cell:
    if r.get("remote"):
        return Cell(text="?")
    return Cell(r["compression"], marks=frozenset({Mark.DECLARED} if r["verified"] is False else ()))


SCORES: tuple[Measured, ...] = (
    (Column("score", "score [95 %]"), _score),
    (Column("n_ok", "n ok"), lambda r: Cell(text=f"{r['n_ok']}/{r['n']}", n_ok=r["n_ok"], n=r["n"])),
    (Column("cut", "cut"), _share("truncated")),
    (Column("lost", "lost"), _share("answer_lost")),
    (Column("limit", "at limit"), _share("hit_limit")),
    (Column("tokens", "tokens", format=",.0f"), _scaled("prompt_tokens")),
    (Column("ratio", "ratio", format=".2f"), _ratio),
)
COSTS: tuple[Measured, ...] = (
    (Column("kv", "KV MiB"), _seen("kv_bytes", MIB)),
    (Column("peak", "peak GiB", format=".2f"), _seen("peak_bytes", GIB)),
    (Column("compress", "compress s"), _seen("compress_seconds")),
    (Column("prefill", "prefill s"), _seen("prefill_seconds")),
    (Column("decode", "decode s"), _seen("decode_seconds")),
)

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


def row_tables(head: str, rows: Sequence[NamedRow], width: int) -> list[RenderableType]:
    """Scores and costs in one table if `width` terminal columns hold it, else one below the other.

    No number is ever broken in two.
    """
    both = _table(head, rows, SCORES + COSTS)
    parts = [both] if terminal.fits(both, width) else [_table(head, rows, part) for part in (SCORES, COSTS)]
    return [terminal.table(part, width, compact=True) for part in parts]


def _table(head: str, rows: Sequence[NamedRow], columns: Sequence[Measured]) -> Table:
    made = [
        Row({"name": Cell(name), **{column.key: cell(r) for column, cell in columns}}) for name, r in rows
    ]
    return Table("run", "", [Column("name", head, kind="name"), *(column for column, _ in columns)], made)


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
    if warning := plan.method_facts().get("warning"):
        lines.append(Text(f"note: {warning}", style="yellow"))
    if plan.method.protocol == "query-aware":
        lines.append(Text("note: this method sees the question while it compresses", style="yellow"))
    elif plan.method.sees_question:
        lines.append(
            Text("note: query-agnostic: the method compressed without seeing the question", style="yellow")
        )
    lines += [Text(f"note: {line}", style="yellow") for line in left_out_in_words(plan.unavailable)]
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
