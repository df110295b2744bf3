"""Bars below a notebook's cell: HTML that is drawn anew in its place, for which no widgets have to be installed."""

from __future__ import annotations

import html
import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, Task, TaskID
from rich.text import Text

EVERY = 0.2
"""Seconds between two drawings."""


def in_notebook() -> bool:
    """Whether what is printed appears below the cell of a notebook."""
    return Console().is_jupyter


class Bars(Progress):
    """Rich's bars on a terminal, and the same bars in HTML in a notebook.

    Parameters
    ----------
    notebook
        Whether they are drawn in a notebook; rich's own are then off.
    """

    def __init__(self, *columns: Any, notebook: bool, **more: Any) -> None:
        super().__init__(*columns, **more)
        self._notebook = notebook
        self._handle: Any = None
        self._drawn = 0.0

    def start(self) -> None:
        super().start()
        if self._notebook and self._handle is None:
            from IPython.display import HTML, display

            self._handle = display(HTML(""), display_id=True)

    def stop(self) -> None:
        super().stop()
        if self._handle is not None:
            self._draw(last=True)
            self._handle = None

    def add_task(self, *args: Any, **fields: Any) -> TaskID:
        found = super().add_task(*args, **fields)
        self._draw()
        return found

    def update(self, *args: Any, **fields: Any) -> None:
        super().update(*args, **fields)
        self._draw()

    def _draw(self, *, last: bool = False) -> None:
        if self._handle is None or (not last and time.monotonic() - self._drawn < EVERY):
            return
        from IPython.display import HTML

        self._drawn = time.monotonic()
        shown = [task for task in self.tasks if task.total is not None] if last else self.tasks
        self._handle.update(HTML("".join(map(_bar, shown))))


def _bar(task: Task) -> str:
    """One bar: what it is of, how far, how fast, how long it took and may take."""
    what = html.escape(Text.from_markup(task.description).plain)
    held = "" if task.total is None else f' max="{task.total:g}" value="{task.completed:g}"'
    parts = [] if task.total is None else [f"{task.completed:,.0f} of {task.total:,.0f}"]
    parts += [html.escape(str(rate))] if (rate := task.fields.get("rate")) else []
    parts += [f"{task.elapsed:,.0f} s"] if task.elapsed is not None else []
    parts += [f"{task.time_remaining:,.0f} s left"] if task.time_remaining else []
    return f'<div>{what} <progress aria-label="{what}"{held}></progress> {", ".join(parts)}</div>'
