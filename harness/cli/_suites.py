"""What `run FILE.yaml` and `reproduce NAME` share: their flags, and carrying a suite out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from click.core import ParameterSource

from ..console.quiet import QUIET
from ..console.safe_text import visible
from ._output import emit, stdout

if TYPE_CHECKING:
    from ..console.progress import Display
    from ..suites.document import Document

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("terminal", "markdown", "latex", "csv", "json", "html")

FLAGS = (
    click.option("--quick", is_flag=True, help="The suite's quick form: the same table from fewer samples."),
    click.option(
        "--var", "variables", multiple=True, metavar="NAME=VALUE", help="Variable of a suite, repeatable."
    ),
    click.option("--dry-run", is_flag=True, help="Show a suite's plan with estimated times; run nothing."),
    click.option(
        "--format",
        "form",
        default="terminal",
        show_default=True,
        help=f"Of a suite's table: {', '.join(FORMATS)}.",
    ),
)


def suite_flags(function: F) -> F:
    """The flags of suites, under the verb's own."""
    for flag in reversed(FLAGS):
        function = flag(function)
    return function


def typed(context: click.Context, flags: dict[str, Any]) -> dict[str, Any]:
    """Those of `flags` that the user typed: a default must not go before what a suite's file says."""
    sources = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {k: v for k, v in flags.items() if context.get_parameter_source(k) in sources}


def show(path: Path, form: str, display: Display) -> None:
    """Print the table of a suite that was carried out, from its record at `path`."""
    from .. import registry, render

    cls = registry.report("suite").cls
    document = cls(cls.Options.parse({"outcome": path}, "report suite")).build([])
    if form == "terminal":
        display.show(lambda width: render.as_terminal([document], width))
        return
    text = {
        "markdown": lambda: render.as_markdown([document], document.title),
        "latex": lambda: render.as_latex([document]),
        "csv": lambda: render.as_csv(
            document.tables[0]
        ),  # a file of CSV is one table: the claims are left out
        "json": lambda: render.as_json([document], document.title),
        "html": lambda: render.as_html([document], document.title),
    }[form]()
    click.echo(text, nl=False, file=stdout())


def carry_out(
    document: Document,
    overrides: dict[str, Any],
    *,
    quick: bool,
    variables: tuple[str, ...],
    dry_run: bool,
    form: str,
) -> int:
    """Plan a suite, show the plan, and unless it is a dry run carry it out and print its table."""
    from rich.console import Console

    from ..console.progress import sized
    from ..errors import unknown_name
    from ..suites.document import variables as parsed
    from ..suites.matrix import spell
    from ..suites.plan import plan_suite
    from ..suites.run import carry_out as execute
    from ._suite_tables import SuiteDisplay, plan_facts, plan_table

    if form not in FORMATS:
        raise unknown_name("value of --format", form, FORMATS)
    spelled = spell(document, overrides, quick=quick, variables=parsed(variables))
    out: Path = spelled.rows[0].runs[0].out
    display = SuiteDisplay()
    with display, display.announce(f"planning {spelled.suite.name}") as progress:
        here = all(run.engine == "local" for row in spelled.rows for run in row.runs)
        # To estimate times a probe would load weights here.
        plan = plan_suite(spelled, out, display.note, progress, estimate=here)
    if dry_run and form == "json":
        emit(plan_facts(plan))
        return 0
    if dry_run:
        display.show(lambda width: plan_table(plan, width))
        return 0
    told = sized(stderr=True, quiet=QUIET.get())
    told.print(plan_table(plan, told.width))
    outcome = execute(plan, out, display)
    show(outcome.path, form, display)
    errors = Console(stderr=True)  # shown under --quiet too
    for row in outcome.failed:
        errors.print(visible(f"failed: {row.label}: {row.why}"), style="red", markup=False, soft_wrap=True)
    return 1 if outcome.failed else 0
