"""``harness run``: methods on tasks, from flags or from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ..errors import UsageError
from . import _model_args
from ._flags import chosen
from ._launched import shared_out
from ._once import check_new
from ._output import emit, json_flag, quiet_flag, say
from ._run_flags import RunCommand, run_flags
from ._suites import carry_out, suite_flags, typed

if TYPE_CHECKING:
    from ..evaluation.settings import RunSettings
    from ..suites.run_file import RunRequest


@click.command(
    cls=RunCommand,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),  # --batch_size, as lm-eval has it
    },
)
@click.argument("file", metavar="[FILE.yaml]", required=False, type=click.Path(path_type=Path))
@run_flags
@json_flag("the summary")
@quiet_flag
@suite_flags
@click.pass_context
@shared_out
def run(
    context: click.RichContext,
    /,
    file: Path | None,
    methods: tuple[str, ...],
    tasks: tuple[str, ...],
    settings: tuple[str, ...],
    plugins: tuple[Path, ...],
    model_args: str | None,
    save_config: Path | None,
    as_json: bool,
    **flags: Any,
) -> int:
    """Run methods on tasks, or a file of runs; what was interrupted goes on where it stopped.

    The options of a method are shown by `harness run --method NAME --help`. Several methods end with one comparison,
    against the first. FILE.yaml is a run (`--save-config` writes one; flags go before what it says) or a suite
    (`harness reproduce NAME --print` shows some). The same command on the same machine gives the same answers, byte
    for byte; another batch size, dtype, device, number of threads or version of a library may change some.
    """
    from . import _first_look

    of_suites = {name: flags.pop(name) for name in ("quick", "variables", "dry_run", "form")}
    request, content = _in_file(file)
    options = chosen(flags, "option_")
    said = _model_args.over(model_args, typed(context, flags))
    if file is not None and request is None:
        if save_config is not None:
            raise UsageError(f"--save-config writes a single run: {file} is a suite")
        for name, there in (("method", methods), ("task", tasks), ("adapter", "adapter" in said)):
            if there:
                raise UsageError(f"--{name} belongs to the cells of a suite: say it in {file}")
        return _suite(file, content, of_suites, settings, as_json, said)
    if request is None and not methods:
        raise UsageError("give --method NAME, or a file: harness run FILE.yaml")
    if given := typed(context, of_suites):
        raise UsageError(f"--{FLAG_NAMES.get(next(iter(given)), next(iter(given)))} is for suites")
    wanted = _wanted(request, methods, options, said, tasks, settings)

    def planned() -> None:
        """Written once all is known to be in order: what is refused leaves no file."""
        if save_config is not None:
            _save(wanted, save_config, plugins)

    if len(wanted) > 1:
        return _several(wanted, as_json, planned)
    told = typed(context, dict.fromkeys(_first_look.CHOOSING))
    alone = told or file is not None or save_config is not None
    if not alone and (rival := _first_look.rival_of(wanted[0])):
        return _beside(wanted[0], rival, as_json, context.obj or [])
    return _one(wanted[0], as_json, context.obj or [], planned)


def _in_file(file: Path | None) -> tuple[RunRequest | None, Any]:
    """The run that a file asks for, or None if it is a suite; and what stands in it."""
    if file is None:
        return None, None
    from .._util.yaml import read_yaml
    from ..suites.run_file import is_run, read

    content = read_yaml(file)
    return (read(file, content) if is_run(content) else None), content


def _wanted(
    request: RunRequest | None,
    methods: tuple[str, ...],
    options: dict[str, Any],
    said: dict[str, Any],
    tasks: tuple[str, ...],
    settings: tuple[str, ...],
) -> list[RunSettings]:
    """The runs that are asked for: what was typed goes before the file."""
    from ..suites.run_file import RunRequest

    given = dict(said)
    if tasks:
        given["tasks"] = tasks
    if settings:
        before = dict(request.settings.get("task_settings", {})) if request else {}
        now = task_settings(settings)
        given["task_settings"] = {
            **before,
            **{family: {**before.get(family, {}), **own} for family, own in now.items()},
        }
    return (request or RunRequest()).over(methods, options, given).runs()


def _save(wanted: list[RunSettings], path: Path, plugins: tuple[Path, ...]) -> None:
    from ..console.quiet import QUIET
    from ..suites.run_file import save

    left = save(wanted, path) + (["plugin"] if plugins else [])
    words = (
        f"; {', '.join('--' + name.replace('_', '-') for name in left)} is for whoever runs it to type"
        if left
        else ""
    )
    if not QUIET.get():
        say(f"written to {path}{words}", err=True)


def _one(wanted: RunSettings, as_json: bool, line: list[str], planned: Callable[[], None]) -> int:
    """One method; `line` is the command line as `invoke` was given it."""
    from ..console.progress import RunDisplay, run_in_words
    from ..console.run_tables import summary_table
    from ..evaluation.plan import plan_run
    from ..evaluation.runner import execute
    from ._next_command import closing_lines

    display = RunDisplay(run_in_words(wanted.method, wanted.model, wanted.tasks))
    with display:
        plan = plan_run(wanted, display.note)
        planned()
        result = execute(plan, display)
    if as_json:
        whole = {"folder": str(result.folder.path), "ran": result.ran, "unavailable": plan.unavailable}
        emit({**whole, **result.summary})
    else:
        display.show(lambda width: summary_table(result.summary, plan, width))
        display.show(lambda width: closing_lines(result, plan, line), copied=True)
    return 1 if result.failed else 0


def _several(wanted: list[RunSettings], as_json: bool, planned: Callable[[], None]) -> int:
    """Several methods, and in one table what they came to."""
    from . import _several_runs

    found = _several_runs.carry_out(wanted, planned)
    if as_json:
        emit(found.to_json())
    else:
        _several_runs.show(found)
    return 1 if found.failed else 0


def _beside(wanted: RunSettings, rival: str, as_json: bool, line: list[str]) -> int:
    """The method and its rival in one table, where nothing says what to ask."""
    from ..console.progress import RunDisplay
    from . import _first_look

    look = _first_look.carry_out(wanted, rival)
    if as_json:
        emit(look.to_json())
    else:
        display = RunDisplay()
        display.show(lambda width: _first_look.table(look, width))
        display.show(lambda width: _first_look.closing(look, line), copied=True)
    return 1 if look.failed else 0


FLAG_NAMES = {"variables": "var", "dry_run": "dry-run", "form": "format"}


def _suite(
    path: Path,
    content: Any,
    of_suites: dict[str, Any],
    settings: tuple[str, ...],
    as_json: bool,
    overrides: dict[str, Any],
) -> int:
    """Carry out a suite's file; what belongs to a cell cannot be typed."""
    from ..suites.document import checked

    if settings:
        overrides["task_settings"] = task_settings(settings)
    if as_json:
        of_suites["form"] = "json"
    return carry_out(checked(path, content), overrides, **of_suites)


def task_settings(pairs: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """``("passkey.lengths=1,2",)`` to ``{"passkey": {"lengths": "1,2"}}``. Raises UsageError for another form."""
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        task, dot, option = name.rpartition(".")
        if not (equals and dot and task and option):
            raise UsageError(f"--set {pair}: write TASK.OPTION=VALUE, for instance passkey.lengths=4096,8192")
        check_new(found.get(task, {}), option, f"--set {task}'s")
        found.setdefault(task, {})[option] = value
    return found
