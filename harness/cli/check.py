"""``harness check``: whether a method or a task keeps to its contract."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ..console.progress import sized
from ..console.quiet import QUIET
from ..console.safe_text import Visible
from ..errors import UsageError
from ._flags import MethodCommand, chosen, names
from ._output import emit, json_flag, quiet_flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from ..models.model import LanguageModel
    from ..testing import CheckResult
    from ..testing._results import Suite

STYLES = {"ok": "green", "failed": "bold red", "skipped": "yellow", "not applicable": "dim"}

WIDTH = 14
"""Of the column of the checks' names."""

CHILD = "HARNESS_STRICT_CHILD"
"""Set for the processes of ``--strict``."""


class CheckCommand(MethodCommand):
    """`check`, with the options of the method that is named first as flags of its own."""

    kinds = (("option_", "Options", "Options of the method"), ("fit_", "FitOptions", "How to learn"))

    def named(self, args: list[str]) -> list[str]:
        """The first word that is neither a flag nor the value of one that every check has."""
        takes = {
            flag for p in self.params if isinstance(p, click.Option) and not p.is_flag for flag in p.opts
        }
        words = iter(args)
        for word in words:
            if word in takes:
                next(words, None)
            elif not word.startswith("-"):
                return [word]
        return []


@click.command(cls=CheckCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False, shell_complete=names("methods"))
@click.option("-t", "--task", shell_complete=names("tasks"), help="Check a task instead of a method.")
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check, repeatable.")
@click.option("--model", help="Try it on a model of yours (default: a random one, made on the spot).")
@click.option(
    "--adapter", type=click.Path(path_type=Path), help="Adapter the method loads first; with --model."
)
@click.option(
    "--budget", metavar="ENTRIES|SIZE", help="Check the method held to a budget, as harness run does."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of a task's data files.")
@click.option("--set", "settings", multiple=True, metavar="TASK.OPTION=VALUE", help="Option of the task.")
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="Python file with a method."
)
@click.option(
    "--strict",
    is_flag=True,
    help="Every check in two processes with other hash seeds and empty caches; what was not seen of an answer fails.",
)
@json_flag("the results")
@quiet_flag
@click.pass_context
def check(
    context: click.Context,
    /,
    name: str | None,
    task: str | None,
    only: tuple[str, ...],
    strict: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Try whether a method keeps to its contract (`harness check NAME`), or a task (`--task NAME`).

    Takes half a minute and downloads nothing. Each check that fails says what was seen and what to do; the
    exit status is then 1. The options of a method are shown by `harness check NAME --help`.
    """
    if (name is None) == (task is None):
        raise UsageError("name one method, or one task with --task; harness list methods shows what there is")
    if flags["adapter"] is not None and flags["model"] is None:
        raise UsageError("--adapter belongs to the model it was trained on: name that with --model")
    if flags["budget"] is not None and name is None:
        raise UsageError("--budget is for methods")
    if strict and name is None:
        raise UsageError("--strict is for methods: a task's samples are made without a model's answers")
    suite = _task_suite(str(task), flags) if name is None else _method_suite(name, flags, strict)
    if strict and not os.environ.get(CHILD):
        from ._strict import strict as twice

        suite.select(only)
        words: list[str] = context.obj or []
        results = _shown(
            twice([w for w in words[words.index("check") + 1 :] if w != "--json"]), quiet=as_json
        )
    else:
        results = _run(suite, suite.select(only), quiet=as_json)
    if as_json:
        plugin = {"task": task} if name is None else {"method": name}
        rows = [asdict(result) for result in results]
        answers = {"answers": found} if strict and (found := suite.known("answers")) else {}
        emit({**plugin, "ok": all(r.ok for r in results), "checks": rows, **answers})
    return 0 if all(result.ok for result in results) else 1


def _method_suite(name: str, flags: dict[str, Any], strict: bool) -> Suite[Any]:
    from ..contracts.budget import Budget
    from ..testing.methods import method_suite

    if flags["budget"] is not None:
        Budget.parse(flags["budget"])
    if flags["settings"] or flags["data_dir"]:
        raise UsageError("--set and --data-dir are a task's; a method's options are flags of their own")
    options, fit_options = chosen(flags, "option_"), chosen(flags, "fit_")
    return method_suite(
        name,
        options,
        fit_options=fit_options,
        adapter=flags["adapter"],
        model=_model(flags["model"]),
        strict=strict,
        budget=flags["budget"],
    )


def _task_suite(task: str, flags: dict[str, Any]) -> Suite[Any]:
    from ..testing.tasks import task_suite
    from .run import task_settings

    settings = task_settings(flags["settings"])
    family = task.partition("/")[0]
    if strangers := set(settings) - {family}:
        raise UsageError(f"--set {min(strangers)}: only options of {family} can be set here")
    return task_suite(task, settings.get(family), data_dir=flags["data_dir"], model=_model(flags["model"]))


def _model(name: str | None) -> Callable[[], LanguageModel] | None:
    """What makes the model: None for the tiny one. A model that cannot be had is refused here."""
    if name is None:
        return None
    from ..models import loading

    loading.load(name)
    return partial(loading.load, name)


def _shown(results: list[CheckResult], quiet: bool) -> list[CheckResult]:
    """Results that are there, shown together."""
    console = sized(quiet=quiet)
    for result in results:
        if result.status != "skipped":
            _show(console, result)
    _sum_up(console, results)
    return results


def _sum_up(console: Console, results: list[CheckResult]) -> None:
    """What was skipped, in a line for each check that failed, and how many came out how."""
    _show_skipped(console, results)
    counts = Counter(result.status for result in results)
    console.print(", ".join(f"{counts[kind]} {kind}" for kind in STYLES if counts[kind]), highlight=False)


def _show_skipped(console: Console, results: list[CheckResult]) -> None:
    """The skipped checks in a line for each failure, whose words are repeated only if it was not shown itself."""
    from rich.text import Text

    from ..testing._results import waits_for

    failed = [result.name for result in results if result.status == "failed"]
    groups: dict[str, list[str]] = {}
    for result in results:
        if result.status == "skipped":
            on = next((n for n in failed if result.reason.startswith(f"{waits_for(n)} (")), None)
            why = f"skipped, as they build on {on}" if on else f"skipped ({result.reason})"
            groups.setdefault(why, []).append(result.name)
    for why, names_ in groups.items():
        line = Visible(Text(f"{why}: {', '.join(names_)}", style=STYLES["skipped"]))
        console.print(line, highlight=False)


def _run(suite: Suite[Any], selected: list[str], quiet: bool) -> list[CheckResult]:
    """The results, each shown as it is there."""
    import torch
    from rich.console import Console

    torch.set_num_threads(1)  # matrices as small as the tiny model's lose by being shared out
    console, status = sized(quiet=quiet), Console(stderr=True, quiet=quiet or QUIET.get())
    results = []
    for name in selected:
        if status.is_terminal and not status.quiet:
            with status.status(f"checking: {name}"):
                results.append(suite.result(name))
        else:
            results.append(suite.result(name))
        if results[-1].status != "skipped":
            _show(console, results[-1])
    _sum_up(console, results)
    return results


def _show(console: Any, result: CheckResult) -> None:
    """One check: its verdict, what it proves, and below that what there is to say."""
    from rich.markup import escape
    from rich.table import Table

    style = STYLES[result.status]
    fact = f" [dim]({escape(result.reason)})[/dim]" if result.reason and result.status == "ok" else ""
    row = Table.grid(padding=(0, 2))
    row.add_column(width=max(map(len, STYLES)), style=style)
    row.add_column(width=WIDTH, style="bold")
    row.add_column(overflow="fold")
    row.add_row(result.status, result.name, result.proves + fact)
    if result.reason and result.status != "ok":
        row.add_row("", "", f"[{style}]{escape(result.reason)}[/]")
    console.print(Visible(row), highlight=False)
