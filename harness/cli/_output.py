"""Flags that every verb has: ``--quiet``, and ``--json`` with one object on standard output and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import IO, Any, TypeVar

import rich_click as click

from ..console.quiet import QUIET
from ..console.safe_text import visible

F = TypeVar("F", bound=Callable[..., Any])

STDOUT = "harness.stdout"


def _quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        QUIET.set(True)  # `invoke` puts it back


def _json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    """Turn standard output to standard error: a plugin's own print must not end up in the JSON."""
    if value:
        context.meta[STDOUT] = sys.stdout
        sys.stdout = sys.stderr  # `invoke` puts it back
    return value


quiet_flag: Callable[[F], F] = click.option(
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_quiet,
    help="No progress and no notes on standard error, only errors; results are printed as ever.",
)


def json_flag(what: str) -> Callable[[F], F]:
    """``--json``, passed on as `as_json`; `what` is printed, in words."""
    return click.option("--json", "as_json", is_flag=True, callback=_json, help=f"Print {what} as JSON.")


def stdout() -> IO[str] | None:
    """Where results go, with or without ``--json``: what `click.echo` takes as its file."""
    context = click.get_current_context(silent=True)
    found: IO[str] | None = context.meta.get(STDOUT) if context else None
    return found


def say(text: str, *, err: bool = False, copied: bool = False) -> None:
    """Print lines for people: what came with data, a model or a plugin does not steer their terminal.

    Lines are broken between words where the terminal, or COLUMNS, has no room; what is meant to be `copied` is not.
    """
    file = sys.stderr if err else sys.stdout
    lines = visible(text).split("\n")
    if not copied and (file.isatty() or os.environ.get("COLUMNS", "").isdigit()):
        width = max(20, shutil.get_terminal_size().columns)
        lines = [part for line in lines for part in _broken(line, width)]
    # Named, since click would make another stream of one that is not UTF-8, and write UTF-8 to it.
    click.echo("\n".join(lines), file=file)


def _broken(line: str, width: int) -> list[str]:
    """A line in parts that fit, words and paths whole; what follows the first part is set in."""
    inset = " " * (len(line) - len(line.lstrip()) + 2)
    parts = textwrap.wrap(
        line, width, subsequent_indent=inset, break_long_words=False, break_on_hyphens=False
    )
    return parts or [line]


def emit(content: dict[str, Any]) -> None:
    """Print the one object of ``--json``."""
    click.echo(json.dumps(content, default=str), file=stdout())
