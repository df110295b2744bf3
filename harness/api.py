"""Runs from Python: what ``harness run`` does, without a command line. Reached as `harness.run`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError, unknown_name

if TYPE_CHECKING:
    import pandas

    from .contracts.run import LoadedRun
    from .evaluation.settings import RunSettings


@dataclass(frozen=True)
class Run:
    """A run that came to its end.

    Attributes
    ----------
    folder
        Where its records are: `run.json`, `samples.jsonl` and the prompts.
    summary
        What ``harness run --json`` prints of it: ``tasks``, a row for each, ``averages`` and ``total``.
    ran
        Samples answered now; the others were there from before.
    unavailable
        Members of a family of tasks that cannot be asked here, and why.
    """

    folder: Path
    summary: dict[str, Any]
    ran: int
    unavailable: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Samples that failed; their records say why."""
        return int(self.summary["total"]["failed"])

    def load(self) -> LoadedRun:
        """The run's facts and records, read from its folder."""
        from .results.loading import load_run

        return load_run(self.folder)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each sample, failed ones included (see `harness.contracts.run.LoadedRun.rows`)."""
        return self.load().to_pandas()


def run(
    method: str = "plain",
    *,
    task: str | Sequence[str] = "passkey",
    plugin: Path | str | None = None,
    progress: bool = False,
    **settings: Any,
) -> Run:
    """Run a method on tasks; what was interrupted goes on where it stopped.

    The same request as a ``harness run`` is the same run: it has the same folder, and either goes on with what
    the other began.

    Parameters
    ----------
    method
        Name of a method, as `harness list methods` shows it.
    task
        A task or a family of tasks, or several.
    plugin
        Python file with a method of your own.
    progress
        Show on standard error how far it is, if that is a terminal.
    **settings
        The flags of ``harness run``, with underscores (``model="smollm2"``, ``limit=20``, ``out="runs"``; see
        `harness.evaluation.settings.RunSettings`), and the options of the method (``alpha=3``). Options of tasks are
        ``task_settings={"passkey": {"lengths": [4096, 8192]}}``.

    Raises
    ------
    UsageError
        For an argument that neither the run nor the method has, with the nearest one, and for whatever else
        cannot be carried out. Flags are named as on the command line.
    MeasurementError
        If the method was caught declaring something else than it did.
    """
    from . import registry
    from .console.progress import RunDisplay
    from .console.quiet import quietly
    from .evaluation.plan import plan_run
    from .evaluation.runner import execute

    if plugin is not None:
        registry.register_file(Path(plugin))
    wanted = _settings(method, (task,) if isinstance(task, str) else tuple(task), settings)
    with quietly(not progress), RunDisplay() as display:
        plan = plan_run(wanted, display.note)
        result = execute(plan, display)
    summary = json.loads(json.dumps(result.summary))  # lists for tuples, as in `run.json`
    return Run(result.folder.path, summary, result.ran, dict(plan.unavailable))


def _settings(method: str, tasks: tuple[str, ...], given: dict[str, Any]) -> RunSettings:
    """The request, each argument given to whom it belongs."""
    from pydantic import TypeAdapter, ValidationError

    from . import registry
    from .evaluation.settings import RunSettings

    own = {f.name for f in dataclasses.fields(RunSettings)} - {"method", "options", "tasks"}
    options = registry.method(method).cls.Options.model_fields
    if clash := sorted(own & set(options)):
        raise UsageError(f"method {method}: its option {clash[0]!r} is a setting of every run; rename it")
    for name in given:
        if name not in own and name not in options:
            known = {"task", "plugin", "progress", *own, *options}
            raise unknown_name(f"argument of run(method={method!r})", name, known)
    whole = {name: value for name, value in given.items() if name in own}
    whole |= {"method": method, "tasks": tasks}
    whole["options"] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in given.items()
        if name in options and value is not None
    }
    try:
        return TypeAdapter(RunSettings).validate_python(whole)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"run({name}={first['input']!r}): {first['msg'][:1].lower()}{first['msg'][1:]}"
        ) from None
