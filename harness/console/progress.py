"""What a run looks like: a live view on a terminal, a table at the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .notebook import Bars
from .quiet import QUIET
from .safe_text import Visible, visible

if TYPE_CHECKING:
    from ..contracts.record import Key, SampleRecord

LOGGED = 20.0
"""Seconds between two lines on progress where there is no terminal for a bar."""

PATIENCE = 5.0
"""Seconds after which a log gets the notes that a terminal gets at once: of what is quicker it has none."""

PIPE = 180
"""Columns where there is no terminal, unless the environment's COLUMNS says how many."""


def sized(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console as wide as its terminal; a file or pipe is as wide as COLUMNS says, or else `PIPE`."""
    console = Console(stderr=stderr, quiet=quiet)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console = Console(stderr=stderr, quiet=quiet, width=PIPE)
    return console


class Display:
    """Progress on standard error, bars only if that is a terminal; results on standard output."""

    def __init__(self) -> None:
        self.quiet = QUIET.get()
        self._began = self._told = time.monotonic()
        self._held: list[str] = []
        self.console = Console(stderr=True, quiet=self.quiet)
        self._notebook = self.console.is_jupyter and not self.quiet
        self.progress = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=self.quiet or not self.console.is_terminal,
            notebook=self._notebook,
        )

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def _in_log(self) -> bool:
        """Whether lines stand in for bars."""
        return not (self.quiet or self._notebook or self.console.is_terminal)

    def note(self, text: str) -> None:
        """One line about something that takes a while: at once on a terminal, in a log after a moment."""
        if self.console.is_terminal:
            self.progress.console.print(f"[dim]{escape(visible(text))}[/dim]", highlight=False)
            return
        self._held.append(text)
        if not self._notebook and time.monotonic() - self._began >= PATIENCE:
            for line in self._held:
                self._log(line)
            self._held.clear()

    def _due(self) -> bool:
        """Whether a log, which has no bar, is to get a line again."""
        return self._in_log() and time.monotonic() - self._told >= LOGGED

    def _log(self, words: str) -> None:
        """A line of a log."""
        self._told = time.monotonic()
        self.console.print(escape(visible(words)), highlight=False, soft_wrap=True)

    @contextmanager
    def announce(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar of its own for a preparation, gone when it is done; in a log a line now and then."""
        row = self.progress.add_task(escape(visible(what)), total=None, rate="")

        def told(done: int, total: int) -> None:
            self.progress.update(row, completed=done, total=total or None)
            if self._due():
                self._log(f"{what}: {done:,} of {total:,}" if total else what)

        try:
            yield told
        finally:
            self.progress.remove_task(row)

    def show(self, make: Callable[[int], RenderableType], *, copied: bool = False) -> None:
        """Print a result, made for the width there is, to standard output.

        What is meant to be `copied` keeps its lines whole: a command broken in two would be two commands.
        """
        console = sized()
        console.print(Visible(make(console.width)), soft_wrap=copied)


class RunDisplay(Display):
    """A run: a bar for each task.

    Parameters
    ----------
    what
        What is run, in words; said from the first second on, since reading model and prompts may take a while.
    """

    def __init__(self, what: str = "") -> None:
        super().__init__()
        self._what = what
        self._rows: dict[str, TaskID] = {}
        self._tokens: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._now: TaskID | None = None
        self._sample, self._doing, self._since = "", "reading", time.monotonic()
        self._early: threading.Timer | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        words = f"{self._what}: preparing" if self._what else "preparing"
        self._now = self.progress.add_task(escape(visible(words)), total=None, rate="")
        if self._in_log() and self._what:  # nothing may happen for minutes in which it could be said
            self._early = threading.Timer(PATIENCE, super()._log, [words])
            self._early.daemon = True
            self._early.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._quiet_again()
        super().__exit__()

    def _quiet_again(self) -> None:
        if self._early is not None:
            self._early.cancel()
            self._early = None

    @contextmanager
    def announce(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """As every display; what the model reads meanwhile is no sample's."""
        sample, self._sample = self._sample, ""
        try:
            with super().announce(what) as told:
                yield told
        finally:
            self._sample = sample

    def start(self, totals: dict[str, int], done: dict[str, int]) -> None:
        self._quiet_again()
        had = f", {sum(done.values()):,} finished before" if any(done.values()) else ""
        self._what += f": {sum(totals.values()):,} samples{had}" if self._what else ""
        if self.console.is_terminal and self._what:
            self.note(self._what)
        elif self._in_log() and time.monotonic() - self._began >= PATIENCE:
            self._log("")  # which says it; of what is quick a log has nothing
        for task, total in totals.items():
            self._rows[task] = self.progress.add_task(
                escape(visible(task)), total=total, completed=done[task], rate=""
            )
        if self._now is not None:
            self.progress.remove_task(self._now)
            self._now = None

    def begin(self, keys: list[Key]) -> None:
        """These samples are asked next, together."""
        if not keys:
            return
        task, name = keys[0]
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        self._sample, self._since = f"{task}, {name}{more}", time.monotonic()
        self._say("reading")

    def phase(self, name: str) -> None:
        """Where the present sample is: see `harness.contracts.phases`."""
        self._say(DOING.get(name, name))

    def step(self, done: int, total: int, unit: str) -> None:
        """How far the phase is."""
        self._say(
            f"{self._doing.partition(' ')[0]} {min(done + 1, total):,} of {total:,} {unit}", done, total
        )

    def _say(self, doing: str, done: int | None = None, total: int | None = None) -> None:
        """Show it: in a bar of its own, and in a log now and then."""
        self._doing = doing
        taken = time.monotonic() - self._since
        left = f", {taken / done * (total - done):,.0f} s left" if done and total and taken > 1 else ""
        if not self._sample:  # a preparation, which has a bar and lines of its own
            return
        line = f"{self._sample}: {doing}"
        if self.console.is_terminal or self._notebook:
            if self._now is None:
                self._now = self.progress.add_task("", total=None, rate="")
            self.progress.update(
                self._now, description=escape(visible(line)), completed=done or 0, total=total, rate=left[2:]
            )
        elif self._due():
            self._log(f"{line}, {taken:,.0f} s so far{left}")

    def _log(self, words: str) -> None:
        """Before the first line, what is run; it alone if there are no other words."""
        self._quiet_again()
        if self._what:
            super()._log(self._what)
            self._what = ""
        if words:
            super()._log(words)

    def sample(self, task: str, record: SampleRecord) -> None:
        tokens = (record.prompt_tokens or 0) + (record.new_tokens or 0)
        self._tokens[task] = self._tokens.get(task, 0) + tokens
        self._seconds[task] = self._seconds.get(task, 0.0) + (record.cost.seconds or 0.0)
        rate = self._tokens[task] / self._seconds[task] if self._seconds[task] else 0.0
        self.progress.update(self._rows[task], advance=1, rate=f"{rate:,.0f} tok/s" if rate else "")
        if self._due():
            row = next(r for r in self.progress.tasks if r.id == self._rows[task])
            line = f"{task}: {row.completed:.0f} of {row.total or 0:.0f} samples, {rate:,.0f} tokens/s"
            self._log(line)


DOING = {"compress": "compressing", "prefill": "reading", "decode": "answering"}


class FitDisplay(Display):
    """A fit: one bar, with loss, speed and time left."""

    _row: TaskID
    _mean: float | None = None

    def start(self, total: int, done: int) -> None:
        self._row = self.progress.add_task("training", total=total, completed=done, rate="")
        self._total, self._done = total, done
        self._since = self._told = time.monotonic()

    def step(self, step: int, loss: float, tokens: int, seconds: float) -> None:
        self._mean = loss if self._mean is None else 0.9 * self._mean + 0.1 * loss
        rate = f"loss {self._mean:.3f}, {tokens / max(seconds, 1e-9):,.0f} tok/s"
        self.progress.update(self._row, completed=step, rate=rate)
        if self._due():
            taken = time.monotonic() - self._since
            left = taken / max(1, step - self._done) * (self._total - step)
            self._log(f"step {step:,} of {self._total:,}, {rate}, {taken:,.0f} s so far, {left:,.0f} s left")


class SynthDisplay(Display):
    """Generating data: a bar for each stage."""

    _row: TaskID

    def start(self, what: str, total: int, done: int) -> None:
        self._row = self.progress.add_task(what, total=total, completed=done, rate="")
        self._what, self._total, self._done = what, total, done
        self._told = time.monotonic()

    def step(self, number: int, rate: str = "") -> None:
        self.progress.update(self._row, advance=number, rate=rate)
        self._done += number
        if self._due():
            speed = f", {rate}" if rate else ""
            self._log(f"{self._what}: {self._done:,} of {self._total:,}{speed}")


def run_in_words(method: str, model: str, tasks: Sequence[str]) -> str:
    """``two_pass on smollm2, passkey``: what a run is, in a line."""
    few = [*tasks[:3], *([f"{len(tasks) - 3} more"] if len(tasks) > 3 else [])]
    return f"{method} on {model}, {', '.join(few)}"
