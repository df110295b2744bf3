"""What a run looks like: a live view on a terminal, a table at the end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from .runner import RunPlan, RunResult

MIB, GIB = 2**20, 2**30


class RunDisplay:
    """Progress on standard error, only if that is a terminal; results on standard output."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._rows: dict[str, TaskID] = {}
        self._tokens: dict[str, int] = {}
        self._seconds: dict[str, float] = {}

    def __enter__(self) -> RunDisplay:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def start(self, totals: dict[str, int], done: dict[str, int]) -> None:
        for task, total in totals.items():
            self._rows[task] = self.progress.add_task(
                escape(task), total=total, completed=done[task], rate=""
            )

    def note(self, text: str) -> None:
        """One line about something that takes a while."""
        if self.console.is_terminal:
            self.progress.console.print(f"[dim]{escape(text)}[/dim]", highlight=False)

    @contextmanager
    def announce(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar of its own for a preparation; gone when it is done."""
        row = self.progress.add_task(escape(what), total=None, rate="")
        try:
            yield lambda done, total: self.progress.update(row, completed=done, total=total)
        finally:
            self.progress.remove_task(row)

    def sample(self, task: str, record: dict[str, Any]) -> None:
        self._tokens[task] = self._tokens.get(task, 0) + record["prompt_tokens"] + record.get("new_tokens", 0)
        self._seconds[task] = self._seconds.get(task, 0.0) + record.get("cost", {}).get("seconds", 0.0)
        rate = self._tokens[task] / self._seconds[task] if self._seconds[task] else 0.0
        self.progress.update(self._rows[task], advance=1, rate=f"{rate:,.0f} tok/s" if rate else "")

    def show(self, renderable: RenderableType) -> None:
        """Print a result to standard output; wide tables keep their width where no terminal limits it."""
        console = Console()
        if not console.is_terminal:
            console = Console(width=180)
        console.print(renderable)


def percent(value: float | None) -> str:
    """A share 0..1 in percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.0f} %"


def number(value: float | None, form: str = ".1f", scale: float = 1.0) -> str:
    """`value` divided by `scale`; a dash for None."""
    return "–" if value is None else format(value / scale, form)


def score(value: float | None, interval: Sequence[float] | None) -> str:
    """A score ×100 with its interval: ``66.7 [20.8, 93.9]``."""
    if value is None:
        return "–"
    if interval is None:
        return f"{100 * value:.1f}"
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def summary_table(summary: dict[str, Any], plan: RunPlan) -> RenderableType:
    """The table at the end of a run, with what a reader must know to believe it below."""
    table = Table(box=box.SIMPLE_HEAD, title=title(plan), title_justify="left", pad_edge=False)
    table.add_column("task", overflow="fold")
    for head in ("score [95 %]", "n ok", "cut", "lost", "at limit", "tokens", "ratio", "KV MiB", "peak GiB"):
        table.add_column(head, justify="right")
    table.add_column("s compress", justify="right")
    table.add_column("prefill", justify="right")
    table.add_column("decode", justify="right")
    for r in summary["tasks"]:
        failed = r["n_ok"] < r["n"]
        table.add_row(
            escape(r["task"]) + (f" ({r['metric']})" if r["metric"] != "score" else ""),
            score(r["score"], r["interval"]),
            f"[red]{r['n_ok']}/{r['n']}[/red]" if failed else f"{r['n_ok']}/{r['n']}",
            percent(r["truncated"]),
            percent(r["answer_lost"]),
            percent(r["hit_limit"]),
            number(r["prompt_tokens"], ",.0f"),
            number(r["compression"], ".2f") + ("" if r["verified"] is not False else "?"),
            number(r["kv_bytes"], ".1f", MIB),
            number(r["peak_bytes"], ".2f", GIB),
            number(r["compress_seconds"]),
            number(r["prefill_seconds"]),
            number(r["decode_seconds"]),
        )
    parts: list[RenderableType] = [table, *averages(summary), *notes(summary, plan)]
    return Group(*parts)


def title(plan: RunPlan) -> str:
    """Method, model and window in one line."""
    window = plan.model.context_length
    return f"[bold]{escape(plan.settings.method)}[/bold] on {escape(plan.settings.model)} (window {window:,} tokens)"


def averages(summary: dict[str, Any]) -> list[RenderableType]:
    """One line for each family that has averages, and for each task that has a breakdown."""
    lines: list[RenderableType] = []
    for family, found in summary["averages"].items():
        values = "  ".join(f"{name} {100 * value:.2f}" for name, value in found["values"].items())
        mark = "" if found["complete"] else "  (over finished samples only)"
        lines.append(Text(f"{family}: {values}{mark}"))
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
    if plan.method.sees_question:
        lines.append(Text("note: this method sees the question while it compresses", style="yellow"))
    for r in summary["tasks"]:
        bad = {k: v for k, v in r["statuses"].items() if k != "ok"}
        if bad:
            what = ", ".join(f"{count} {name}" for name, count in bad.items())
            lines.append(
                Text(
                    f"note: {r['task']}: {what}; the score is over the {r['n_ok']} that finished", style="red"
                )
            )
    if any(r["verified"] is False for r in summary["tasks"]):
        lines.append(
            Text("note: '?' after a ratio: the method declares it, no forward pass showed it", style="yellow")
        )
    lines.append(
        Text(
            "ratio = prompt tokens per KV entry the answer began from, measured; cut = share truncated "
            f"({plan.settings.truncate}); lost = answers that truncation removed; at limit = stopped by the token limit",
            style="dim",
        )
    )
    return lines


def closing_lines(result: RunResult, plan: RunPlan, args: Sequence[str]) -> RenderableType:
    """Where the run is, and what to type next."""
    typed = ["harness", *args]
    if result.failed:
        following = f"{shlex.join(typed)}    # runs the {result.failed} failed samples again"
    else:
        other = "plain" if plan.settings.method != "plain" else "two_pass"
        own = {f"--{name.replace('_', '-')}" for name in type(plan.method.options).model_fields}
        following = f"{shlex.join(_swap(typed, own, other))}    # the same samples under another method"
    state = f"{result.ran} samples run" if result.ran else "nothing to do: this run is finished"
    return Text.assemble(f"{state}; records in ", (str(result.folder.path), "bold"), f"\nnext: {following}")


def _swap(words: Sequence[str], own: set[str], method: str) -> list[str]:
    """The same command line with another method, without the options that only the first one has."""
    kept: list[str] = []
    skip = False
    for word in words:
        flag = word.partition("=")[0]
        if skip:
            skip = False
        elif flag in own or flag in ("-m", "--method", "--adapter"):
            skip = "=" not in word
        else:
            kept.append(word)
    return [*kept[:2], "--method", method, *kept[2:]]
