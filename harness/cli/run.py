"""``harness run``: one method on one or more tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ..errors import UsageError
from ._flags import MethodCommand, batch_size, chosen, names
from ._output import emit, json_flag, quiet_flag
from ._suites import carry_out, suite_flags, typed

if TYPE_CHECKING:
    from ..evaluation.settings import RunSettings


class RunCommand(MethodCommand):
    """`run`, with the options of whatever ``--method`` names as flags of its own."""

    kinds = (("option_", "Options", "Options of the method"),)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if len(given := self.named(args)) > 1:
            raise UsageError(
                f"--method is given {len(given)} times ({', '.join(given)}) and a run has one: run them one by one"
            )
        return super().parse_args(ctx, args)


@click.command(cls=RunCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("suite", metavar="[SUITE.yaml]", required=False, type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--method",
    shell_complete=names("methods"),
    help="Method to run; `harness list methods` shows them.",
)
@click.option(
    "-t",
    "--task",
    "tasks",
    multiple=True,
    shell_complete=names("tasks"),
    help="Task or family, repeatable (default passkey; two_pass is then shown beside one uniform pass).",
)
@click.option("--model", default="smollm2", show_default=True, help="Name, Hub id, folder or .gguf file.")
@click.option(
    "--adapter",
    type=click.Path(path_type=Path),
    help="Folder of trained weights for the method; none: untrained (default: one that ships, if any).",
)
@click.option("--context-length", type=int, help="Treat the model's window as smaller than it is, in tokens.")
@click.option(
    "--budget",
    metavar="ENTRIES|SIZE",
    help="KV entries (1024) or bytes (16MiB) an answer may begin from, at most.",
)
@click.option("--max-context", type=int, help="Truncate raw prompts to so many tokens.")
@click.option(
    "--truncate",
    default="auto",
    show_default=True,
    help="middle, middle-exact, left, right, context-end or none; auto: the task's own rule, middle for most.",
)
@click.option(
    "--chat", default="auto", show_default=True, help="Use the model's chat template: auto or never."
)
@click.option("--limit", type=int, help="At most so many samples of each task.")
@click.option("--seed", type=int, default=42, show_default=True, help="Seed of the tasks' samples.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option(
    "--batch-size",
    metavar="INTEGER|auto",
    callback=batch_size,
    default="1",
    show_default=True,
    help="Samples run together; auto: as many of like length as there is memory for, the longest first.",
)
@click.option(
    "--query-agnostic",
    is_flag=True,
    help="Let no method see the question while it compresses (query-agnostic).",
)
@click.option(
    "--protocol",
    default="auto",
    show_default=True,
    help="Questions come after compression (a context is compressed once for all), before (once for each), or auto: "
    "after, unless the method looks at the question.",
)
@click.option(
    "--share/--no-share", default=True, hidden=True, help="--no-share is an older name of --protocol before."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of data files, `<dataset>.jsonl`.")
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@click.option(
    "--sample-timeout",
    type=float,
    metavar="SECONDS",
    help="Record a sample as failed (timeout) that takes longer; a batch has as much for each of its samples.",
)
@click.option(
    "--join", is_flag=True, help="Share the run's samples with other processes started with --join."
)
@click.option("--engine", default="local", show_default=True, help="local, or ray: workers on many devices.")
@click.option("--workers", type=int, help="Of --engine ray, at most so many. [default: one for each device]")
@click.option("--address", metavar="HOST:PORT", help="Of --engine ray, a cluster. [default: this machine]")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of runs."
)
@click.option(
    "--set", "settings", multiple=True, metavar="TASK.OPTION=VALUE", help="Option of a task, repeatable."
)
@click.option(
    "--plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="Python file with a method."
)
@click.option(
    "--trust-remote-code", is_flag=True, help="Run code that comes with a model. Only for one you trust."
)
@click.option(
    "--allow-unused-weights",
    is_flag=True,
    help="Run a model although its files hold weights that it does not use; the run is marked.",
)
@click.option(
    "--trust-task-code",
    is_flag=True,
    help="Run code that a task's own files name (lm_eval.include_path). Only for files you trust.",
)
@click.option(
    "--skip-unavailable",
    is_flag=True,
    help="Leave out tasks whose data cannot be had here, and say which (else an error, if asked for by name).",
)
@json_flag("the summary")
@quiet_flag
@suite_flags
@click.pass_context
def run(
    context: click.RichContext,
    /,
    suite: Path | None,
    method: str | None,
    tasks: tuple[str, ...],
    settings: tuple[str, ...],
    plugins: tuple[Path, ...],
    as_json: bool,
    **flags: Any,
) -> int:
    """Run a method on tasks, or a suite; what was interrupted goes on where it stopped.

    The options of a method are shown by `harness run --method NAME --help`. A suite is a YAML file: `harness
    reproduce NAME --print` shows some. The same command on the same machine gives the same answers, byte for
    byte; another batch size, dtype, device, number of threads or version of a library may change some.
    """
    of_suites = {name: flags.pop(name) for name in ("quick", "variables", "dry_run", "form")}
    if suite is not None:
        return _suite(context, suite, of_suites, settings, plugins, as_json, flags)
    if method is None:
        raise UsageError("give --method NAME, or a suite: harness run FILE.yaml")
    if given := typed(context, of_suites):
        raise UsageError(f"--{FLAG_NAMES.get(next(iter(given)), next(iter(given)))} is for suites")
    from ..console.progress import RunDisplay, run_in_words
    from ..console.run_tables import summary_table
    from ..evaluation.plan import plan_run
    from ..evaluation.runner import execute
    from ..evaluation.settings import RunSettings
    from . import _first_look
    from ._next_command import closing_lines

    options = chosen(flags, "option_")
    wanted = RunSettings(
        method=method,
        options=options,
        tasks=tasks or ("passkey",),
        task_settings=task_settings(settings),
        **flags,
    )
    told = typed(context, dict.fromkeys(_first_look.CHOOSING))
    if not told and (rival := _first_look.rival_of(wanted)):
        return _beside(wanted, rival, as_json, context.obj or [])
    display = RunDisplay(run_in_words(method, wanted.model, wanted.tasks))
    with display:
        plan = plan_run(wanted, display.note)
        result = execute(plan, display)
    if as_json:
        whole = {"folder": str(result.folder.path), "ran": result.ran, "unavailable": plan.unavailable}
        emit({**whole, **result.summary})
    else:
        display.show(lambda width: summary_table(result.summary, plan, width))
        line: list[str] = context.obj or []  # the words of the command line, as `invoke` was given them
        display.show(lambda width: closing_lines(result, plan, line), copied=True)
    return 1 if result.failed else 0


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
    context: click.Context,
    path: Path,
    of_suites: dict[str, Any],
    settings: tuple[str, ...],
    plugins: tuple[Path, ...],
    as_json: bool,
    flags: dict[str, Any],
) -> int:
    """Carry out a suite's file; what belongs to a cell cannot be typed."""
    from .. import registry
    from ..suites.document import read

    for name in ("method", "tasks", "adapter"):
        if typed(context, {name: None}):
            raise UsageError(f"--{name.rstrip('s')} belongs to the cells of a suite: say it in {path}")
    for plugin in plugins:
        registry.register_file(plugin)
    overrides = typed(context, flags)
    if settings:
        overrides["task_settings"] = task_settings(settings)
    if as_json:
        of_suites["form"] = "json"
    return carry_out(read(path), overrides, **of_suites)


def task_settings(pairs: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """``("passkey.lengths=1,2",)`` to ``{"passkey": {"lengths": "1,2"}}``. Raises UsageError for another form."""
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        task, dot, option = name.rpartition(".")
        if not (equals and dot and task and option):
            raise UsageError(f"--set {pair}: write TASK.OPTION=VALUE, for instance passkey.lengths=4096,8192")
        found.setdefault(task, {})[option] = value
    return found
