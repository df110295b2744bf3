"""``harness reproduce``: the papers' tables, as suites that ship."""

from __future__ import annotations

from typing import Any

import rich_click as click

from ..errors import UsageError
from ._launched import shared_out
from ._output import emit, json_flag, quiet_flag, say
from ._suites import carry_out, suite_flags, typed
from .run import run

OVERRIDES = (
    "model",
    "limit",
    "max_context",
    "context_length",
    "truncate",
    "chat",
    "seed",
    "dtype",
    "device",
    "device_map",
    "batch_size",
    "data_dir",
    "offline",
    "engine",
    "workers",
    "address",
    "out",
    "trust_remote_code",
    "track",
)
"""Flags of `harness run` that go before what a suite says."""


@click.command(
    params=[p for p in run.params if p.name in OVERRIDES],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("name", required=False)
@click.option("--print", "show", is_flag=True, help="Print the suite's file, to be edited; run nothing.")
@suite_flags
@json_flag("the table")
@quiet_flag
@click.pass_context
@shared_out
def reproduce(
    context: click.RichContext,
    /,
    name: str | None,
    show: bool,
    form: str,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Run a paper's table again and show it beside the published values; without NAME, list the tables.

    Defaults of the flags are the suite's own. What was interrupted goes on, finished runs are shared between
    suites, and `harness reproduce NAME --print > mine.yaml` gives a file that `harness run mine.yaml` runs.
    """
    from ..suites import document

    if as_json and show:
        raise UsageError("--print shows a file, which is YAML: leave --json out")
    if name is None and as_json:
        rows = [{"name": n, "title": document.read(p).content["title"]} for n, p in document.names().items()]
        emit({"suites": rows})
        return 0
    if name is None:
        for known, path in document.names().items():
            say(f"{known:16} {document.read(path).content['title']}")
        return 0
    path = document.find(name)
    if show:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
        return 0
    form = "json" if as_json else form
    quick, variables = flags.pop("quick"), flags.pop("variables")
    return carry_out(
        document.read(path),
        typed(context, flags),
        quick=quick,
        variables=variables,
        dry_run=dry_run,
        form=form,
    )
