"""The flags of ``harness run``, and the options of whatever methods it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from ._flags import MethodCommand, batch_size, listed, names, values_of

F = TypeVar("F", bound=Callable[..., Any])

YAML = (".yaml", ".yml")


class RunCommand(MethodCommand):
    """`run`, with the options of the methods it names, on the command line or in a file, as flags of its own."""

    kinds = (("option_", "Options", "Options of the method"),)

    def named(self, args: list[str]) -> list[str]:
        given = values_of(args, "-m", "--method", "--methods")
        if given:
            return [name.strip() for value in given for name in value.split(",") if name.strip()]
        return self._in_file(args)

    def _in_file(self, args: list[str]) -> list[str]:
        """Methods that the file of a run names, where one is given."""
        words = [word for word in args if Path(word).suffix in YAML and not word.startswith("-")]
        valued = [p for p in self.params if isinstance(p, click.Option) and not p.is_flag]
        flags = {flag for param in valued for flag in param.opts}
        before = dict(zip(args[1:], args))
        files = [word for word in words if before.get(word, "").replace("_", "-") not in flags]
        if not files or not Path(files[0]).is_file():
            return []
        from .._util.yaml import read_yaml
        from ..suites.run_file import is_run, read

        content = read_yaml(Path(files[0]))
        return [name for name, _ in read(Path(files[0]), content).methods] if is_run(content) else []


FLAGS = (
    click.option(
        "-m",
        "--method",
        "--methods",
        "methods",
        multiple=True,
        callback=listed,
        shell_complete=names("methods"),
        help="Method to run, as `harness list methods` shows it; several, with commas or repeated: each is run and "
        "held against the first.",
    ),
    click.option(
        "-t",
        "--task",
        "--tasks",
        "tasks",
        multiple=True,
        callback=listed,
        shell_complete=names("tasks"),
        help="Task or family, with commas or repeated (default passkey; two_pass is then shown beside one uniform "
        "pass).",
    ),
    click.option("--model", default="smollm2", show_default=True, help="Name, Hub id, folder or .gguf file."),
    click.option(
        "--model-args",
        metavar="NAME=VALUE,...",
        help="What lm-eval calls so: pretrained, revision, dtype, max_length, device, parallelize, batch_size, "
        "trust_remote_code.",
    ),
    click.option(
        "--adapter",
        type=click.Path(path_type=Path),
        help="Folder of trained weights for the method; none: untrained (default: one that ships, if any).",
    ),
    click.option(
        "--context-length", type=int, help="Treat the model's window as smaller than it is, in tokens."
    ),
    click.option(
        "--budget",
        metavar="ENTRIES|SIZE",
        help="KV entries (1024) or bytes (16MiB) an answer may begin from, at most.",
    ),
    click.option("--max-context", type=int, help="Truncate raw prompts to so many tokens."),
    click.option(
        "--truncate",
        default="auto",
        show_default=True,
        help="middle, middle-exact, left, right, context-end or none; auto: the task's own rule, middle for most.",
    ),
    click.option(
        "--chat", default="auto", show_default=True, help="Use the model's chat template: auto or never."
    ),
    click.option("--limit", type=int, help="At most so many samples of each task."),
    click.option("--seed", type=int, default=42, show_default=True, help="Seed of the tasks' samples."),
    click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ..."),
    click.option(
        "--device-map",
        metavar="auto|FILE.json",
        help="Spread a model over devices, memory and disk: auto, balanced, balanced_low_0, sequential, or a file of "
        "places.",
    ),
    click.option(
        "--batch-size",
        metavar="INTEGER|auto",
        callback=batch_size,
        default="1",
        show_default=True,
        help="Samples run together; auto: as many of like length as there is memory for, the longest first.",
    ),
    click.option(
        "--query-agnostic",
        is_flag=True,
        help="Let no method see the question while it compresses (query-agnostic).",
    ),
    click.option(
        "--protocol",
        default="auto",
        show_default=True,
        help="Questions come after compression (a context is compressed once for all), before (once for each), or "
        "auto: after, unless the method looks at the question.",
    ),
    click.option(
        "--share/--no-share",
        default=True,
        hidden=True,
        help="--no-share is an older name of --protocol before.",
    ),
    click.option(
        "--data-dir", type=click.Path(path_type=Path), help="Folder of data files, `<dataset>.jsonl`."
    ),
    click.option("--offline", is_flag=True, help="Fetch nothing."),
    click.option(
        "--sample-timeout",
        type=float,
        metavar="SECONDS",
        help="Record a sample as failed (timeout) that takes longer; a batch has as much for each of its samples.",
    ),
    click.option(
        "--join", is_flag=True, help="Share the run's samples with other processes started with --join."
    ),
    click.option(
        "--engine",
        default="local",
        show_default=True,
        help="local; ray: workers on many devices; torchrun or accelerate: the processes that either started.",
    ),
    click.option(
        "--workers", type=int, help="Of --engine ray, at most so many. [default: one for each device]"
    ),
    click.option(
        "--address", metavar="HOST:PORT", help="Of --engine ray, a cluster. [default: this machine]"
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Folder of runs.",
    ),
    click.option(
        "--set", "settings", multiple=True, metavar="TASK.OPTION=VALUE", help="Option of a task, repeatable."
    ),
    click.option(
        "--plugin",
        "plugins",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Python file with a method.",
    ),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that comes with a model. Only for one you trust."
    ),
    click.option(
        "--allow-unused-weights",
        is_flag=True,
        help="Run a model although its files hold weights that it does not use; the run is marked.",
    ),
    click.option(
        "--trust-task-code",
        is_flag=True,
        help="Run code that a task's own files name (lm_eval.include_path). Only for files you trust.",
    ),
    click.option(
        "--skip-unavailable",
        is_flag=True,
        help="Leave out tasks whose data cannot be had here, and say which (else an error, if asked for by name).",
    ),
    click.option(
        "--track",
        multiple=True,
        callback=listed,
        metavar="NAME",
        help="Send numbers as they come to wandb, mlflow, trackio or tensorboard, with commas or repeated.",
    ),
    click.option(
        "--save-config",
        metavar="FILE.yaml",
        type=click.Path(path_type=Path),
        help="Write the run as a file, to be run by `harness run FILE.yaml`.",
    ),
)


def run_flags(function: F) -> F:
    """The flags of a run, under the verb's own."""
    for flag in reversed(FLAGS):
        function = flag(function)
    return function
