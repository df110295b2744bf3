"""What a run looks like: a live view on a terminal, a table at the end."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from . import registry
from ._plain import Visible, visible
from ._quiet import QUIET
from ._util.units import GIB, MIB
from .errors import UsageError
from .options import describe

if TYPE_CHECKING:
    from .evaluation.plan import RunPlan
    from .evaluation.runner import RunResult
    from .training.run import FitResult

LOGGED = 20.0
"""Seconds between two lines on progress where there is no terminal for a bar."""


class Display:
    """Progress on standard error, bars only if that is a terminal; results on standard output."""

    def __init__(self) -> None:
        self.quiet = QUIET.get()
        self.console = Console(stderr=True, quiet=self.quiet)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=self.quiet or not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def note(self, text: str) -> None:
        """One line about something that takes a while."""
        if self.console.is_terminal:
            self.progress.console.print(f"[dim]{escape(visible(text))}[/dim]", highlight=False)

    @contextmanager
    def announce(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar of its own for a preparation; gone when it is done."""
        row = self.progress.add_task(escape(visible(what)), total=None, rate="")
        try:
            yield lambda done, total: self.progress.update(row, completed=done, total=total or None)
        finally:
            self.progress.remove_task(row)

    def show(self, make: Callable[[int], RenderableType], *, copied: bool = False) -> None:
        """Print a result, made for the width there is, to standard output; a file or pipe gets a wide one.

        What is meant to be `copied` keeps its lines whole: a command broken in two would be two commands.
        """
        console = Console()
        if not console.is_terminal:
            console = Console(width=180)
        console.print(Visible(make(console.width)), soft_wrap=copied)


class RunDisplay(Display):
    """A run: a bar for each task."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, TaskID] = {}
        self._tokens: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._told = time.monotonic()

    def start(self, totals: dict[str, int], done: dict[str, int]) -> None:
        for task, total in totals.items():
            self._rows[task] = self.progress.add_task(
                escape(visible(task)), total=total, completed=done[task], rate=""
            )

    def sample(self, task: str, record: dict[str, Any]) -> None:
        self._tokens[task] = self._tokens.get(task, 0) + record["prompt_tokens"] + record.get("new_tokens", 0)
        self._seconds[task] = self._seconds.get(task, 0.0) + record.get("cost", {}).get("seconds", 0.0)
        rate = self._tokens[task] / self._seconds[task] if self._seconds[task] else 0.0
        self.progress.update(self._rows[task], advance=1, rate=f"{rate:,.0f} tok/s" if rate else "")
        if not self.console.is_terminal and time.monotonic() - self._told >= LOGGED:
            self._told = time.monotonic()
            row = next(r for r in self.progress.tasks if r.id == self._rows[task])
            line = f"{task}: {row.completed:.0f} of {row.total or 0:.0f} samples, {rate:,.0f} tokens/s"
            self.console.print(escape(visible(line)), highlight=False, soft_wrap=True)


class FitDisplay(Display):
    """A fit: one bar, with loss, speed and time left."""

    _row: TaskID
    _mean: float | None = None

    def start(self, total: int, done: int) -> None:
        self._row = self.progress.add_task("training", total=total, completed=done, rate="")

    def step(self, step: int, loss: float, tokens: int, seconds: float) -> None:
        self._mean = loss if self._mean is None else 0.9 * self._mean + 0.1 * loss
        rate = f"loss {self._mean:.3f}, {tokens / max(seconds, 1e-9):,.0f} tok/s"
        self.progress.update(self._row, completed=step, rate=rate)


class SynthDisplay(Display):
    """Generating data: a bar for each stage."""

    _row: TaskID

    def start(self, what: str, total: int, done: int) -> None:
        self._row = self.progress.add_task(what, total=total, completed=done, rate="")

    def step(self, number: int, rate: str = "") -> None:
        self.progress.update(self._row, advance=number, rate=rate)


def fit_tables(result: FitResult) -> Iterator[Callable[[int], RenderableType]]:
    """What a fit comes to, each part made for a width: steps and loss, what was trained, what to do next."""
    card, folder = result.card, result.folder
    if result.report is None:
        yield lambda _: Text(f"{folder} holds this very fit, finished; nothing was done")

    else:
        report = result.report
        if report.loss is not None:
            yield lambda _: Text(
                f"{report.steps} steps, loss {report.loss:.3f} nats per token over the last tenth of them"
            )
        if report.parameters:
            columns = list(report.parameters[0])
            table = Table(box=box.SIMPLE_HEAD, title="Trained parameters, in millions", title_justify="left")
            for name in columns:
                table.add_column(name, justify="left" if name == columns[0] else "right")
            for row in report.parameters:
                table.add_row(*(v if isinstance(v, str) else f"{v / 1e6:,.2f}" for v in row.values()))
            yield lambda _: table
    request = card.get("request", {})
    words = ["harness", "run", "--method", str(request.get("method")), "--adapter", str(folder)]
    if request.get("model") not in (None, "smollm2"):
        words += ["--model", str(request["model"])]
    for name, value in request.get("given_options", {}).items():
        flag = name.replace("_", "-")
        words += (
            [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
        )
    yield lambda _: Text(f"next: {shlex.join(words)}")


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


Column = tuple[str, Callable[[dict[str, Any]], str]]

SCORES: tuple[Column, ...] = (
    ("score [95 %]", lambda r: score(r["score"], r["interval"])),
    ("n ok", lambda r: f"[red]{r['n_ok']}/{r['n']}[/red]" if r["n_ok"] < r["n"] else f"{r['n_ok']}/{r['n']}"),
    ("cut", lambda r: percent(r["truncated"])),
    ("lost", lambda r: percent(r["answer_lost"])),
    ("at limit", lambda r: percent(r["hit_limit"])),
    ("tokens", lambda r: number(r["prompt_tokens"], ",.0f")),
    ("ratio", lambda r: number(r["compression"], ".2f") + ("" if r["verified"] is not False else "?")),
)
COSTS: tuple[Column, ...] = (
    ("KV MiB", lambda r: number(r["kv_bytes"], ".1f", MIB)),
    ("peak GiB", lambda r: number(r["peak_bytes"], ".2f", GIB)),
    ("compress s", lambda r: number(r["compress_seconds"])),
    ("prefill s", lambda r: number(r["prefill_seconds"])),
    ("decode s", lambda r: number(r["decode_seconds"])),
)
WIDE = 130
"""Terminal columns from which scores and costs stand side by side."""


def summary_table(summary: dict[str, Any], plan: RunPlan, width: int) -> RenderableType:
    """The table at the end of a run, with what a reader must know to believe it below."""
    groups = [SCORES + COSTS] if width >= WIDE else [SCORES, COSTS]
    tables = [_table(summary, columns) for columns in groups]
    parts: list[RenderableType] = [title(plan), *tables, *averages(summary), *notes(summary, plan)]
    return Group(*parts)


def _table(summary: dict[str, Any], columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", overflow="fold")
    for head, _ in columns:
        table.add_column(head, justify="right", no_wrap=True)
    for r in summary["tasks"]:
        name = escape(r["task"]) + (f" ({r['metric']})" if r["metric"] != "score" else "")
        table.add_row(name, *(cell(r) for _, cell in columns))
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
            Text("note: query-agnostic: the question was withheld while compressing", style="yellow")
        )
    for reason in dict.fromkeys(plan.unavailable.values()):
        names = ", ".join(name for name, why in plan.unavailable.items() if why == reason)
        lines.append(Text(f"note: not asked: {names}: {reason}", style="yellow"))
    for r in summary["tasks"]:
        if r["shared"]:
            saved = f"{r['saved_seconds']:,.1f} s saved"
            lines.append(
                Text(
                    f"note: {r['task']}: {r['shared']} questions shared compressed contexts, {saved}",
                    style="dim",
                )
            )
        bad = {k: v for k, v in r["statuses"].items() if k != "ok"}
        if bad:
            what = ", ".join(f"{count} {name}" for name, count in bad.items())
            lines.append(
                Text(
                    f"note: {r['task']}: {what}; the score is over the {r['n_ok']} that finished", style="red"
                )
            )
    if plan.settings.batch_size > 1 or plan.model.dtype != "float32":
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


def closing_lines(result: RunResult, plan: RunPlan, args: Sequence[str]) -> RenderableType:
    """Where the run is, and what to type next."""
    typed = ["harness", *args]
    if result.failed:
        following = f"{shlex.join(typed)}    # runs the {result.failed} failed samples again"
    else:
        swapped = _swap(typed, describe(type(plan.method.options)), _other(plan.settings.method))
        following = f"{shlex.join(swapped)}    # the same samples under another method"
    state = f"{result.ran} samples run" if result.ran else "nothing to do: this run is finished"
    return Text.assemble(f"{state}; records in ", (str(result.folder.path), "bold"), f"\nnext: {following}")


def _other(method: str) -> str:
    """Another method to compare with: one without options if there is one, for that is a baseline."""
    others = [name for name in registry.method_names() if name != method]
    for name in others:
        with contextlib.suppress(UsageError):  # a plugin that cannot be imported is no suggestion
            if not registry.method(name).cls.Options.model_fields:
                return name
    return others[0] if others else method


def _swap(words: Sequence[str], options: Sequence[dict[str, Any]], method: str) -> list[str]:
    """The same command line with another method, without what belongs to the first one alone."""
    flags = {f"--{o['name'].replace('_', '-')}": o["type"] == "bool" for o in options}
    switches = {flag for flag, boolean in flags.items() if boolean}
    switches |= {f"--no-{flag[2:]}" for flag in switches}
    valued = {*flags, "-m", "--method", "--adapter", "--plugin"} - switches
    kept: list[str] = []
    skip = False
    for word in words:
        flag = word.partition("=")[0]
        if skip:
            skip = False
        elif flag in valued:
            skip = "=" not in word
        elif flag in switches or (word.startswith("-m") and word[1] != "-"):
            continue
        else:
            kept.append(word)
    return [*kept[:2], "--method", method, *kept[2:]]
