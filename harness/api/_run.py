"""Runs from Python: what ``harness run`` does, without a command line. Reached as `harness.run`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from ..contracts.run import LoadedRuns
from ..errors import UsageError, unknown_name
from ._config import asked_in
from ._given import MethodLike, ModelLike, hushed, named_method, named_model

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from ..contracts.run import LoadedRun
    from ..evaluation.settings import RunSettings


MOST = 6
"""Tasks that the short form of a run names."""


@dataclass(frozen=True, repr=False)
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
        from ..results.loading import load_run

        return load_run(self.folder)

    def __repr__(self) -> str:
        scores = ", ".join(
            f"{r['task']} " + ("–" if r["score"] is None else f"{100 * r['score']:.1f}")
            for r in self.summary["tasks"][:MOST]
        )
        more = len(self.summary["tasks"]) - MOST
        total = self.summary["total"]
        rest = f" and {more} more" if more > 0 else ""
        return f"<Run {self.folder}: {total['n_ok']} of {total['n']} samples; {scores}{rest}>"

    def _repr_html_(self) -> str:
        return LoadedRuns([self.load()])._repr_html_()

    def plot(self) -> Figure:
        """Its scores with their intervals."""
        return LoadedRuns([self.load()]).plot()

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each sample, failed ones included (see `harness.contracts.run.LoadedRun.rows`)."""
        return self.load().to_pandas()


class Runs(list[Run]):
    """Runs that were made together."""

    def load(self) -> LoadedRuns:
        """Their facts and records, under labels that tell them apart."""
        from ..results.loading import load_runs

        return load_runs([each.folder for each in self])

    def _repr_html_(self) -> str:
        return self.load()._repr_html_()

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each sample of each run."""
        return self.load().to_pandas()

    def plot(self) -> Figure:
        """Scores with their intervals, run beside run."""
        return self.load().plot()


@overload
def run(
    method: MethodLike | None = None,
    *,
    task: str | Sequence[str] | None = None,
    model: ModelLike | None = None,
    tokenizer: Any = None,
    plugin: Path | str | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Run:
    """One method on one model."""
    ...


@overload
def run(
    method: Sequence[MethodLike],
    *,
    task: str | Sequence[str] | None = None,
    model: ModelLike | Sequence[str] | None = None,
    tokenizer: Any = None,
    plugin: Path | str | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Runs:
    """Several methods, or several models."""
    ...


@overload
def run(
    method: MethodLike | None = None,
    *,
    task: str | Sequence[str] | None = None,
    model: list[str] | tuple[str, ...],
    plugin: Path | str | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Runs:
    """Several methods, or several models."""
    ...


def run(
    method: MethodLike | Sequence[MethodLike] | None = None,
    *,
    task: str | Sequence[str] | None = None,
    model: ModelLike | Sequence[str] | None = None,
    tokenizer: Any = None,
    plugin: Path | str | None = None,
    progress: bool | None = None,
    config: Path | str | None = None,
    **settings: Any,
) -> Run | Runs:
    """Run a method on tasks; what was interrupted goes on where it stopped.

    The same request as a ``harness run`` is the same run: it has the same folder, and either goes on with what
    the other began.

    Parameters
    ----------
    method
        Name of a method, as `harness list methods` shows it, a method's class, or an instance; or several of them:
        then each is run, on each model, and `Runs` come back. Default: ``plain``, or what the file names.
    task
        A task or a family of tasks, or several; ``passkey`` if nothing says another.
    model
        A model's name, folder or file, or several, ``smollm2`` if nothing says another; or a causal language model of
        transformers that is loaded. Its weights are shared and it stays as it is. Where they are those of the files
        it came from, the run is that of those files; else the run is known by the weights.
    tokenizer
        Of a loaded model.
    plugin
        Python file with a method of your own.
    progress
        Show how far it is: on standard error, or as bars below the cell of a notebook. Default: in a notebook.
    config
        File of a run, as ``harness run --save-config`` writes it; the other arguments go before what it says. If it
        names several methods, `Runs` come back.
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
    from .. import registry
    from ..console.progress import RunDisplay, run_in_words
    from ..console.quiet import quietly
    from ..evaluation.plan import plan_run
    from ..evaluation.runner import execute

    if plugin is not None:
        registry.register_file(Path(plugin))
    if config is not None:
        several = isinstance(method, list | tuple)
        named = list(method) if isinstance(method, list | tuple) else [method] * (method is not None)
        known = dict(named_method(cast(MethodLike, each)) for each in named)
        loaded = {} if model is None or isinstance(model, str | list | tuple) else {"model": model}
        said = {"tasks": task, "model": None if loaded else model, **settings}
        own_model: dict[str, Any] = {**loaded, "tokenizer": tokenizer} if loaded else {}
        made = [
            cast(Run, run(name, progress=progress, **{**each, **known.get(name, {}), **own_model}))
            for name, each in asked_in(Path(config), list(known), said)
        ]
        return made[0] if len(made) == 1 and not several else Runs(made)
    if isinstance(method, list | tuple) or isinstance(model, list | tuple):
        methods = method if isinstance(method, list | tuple) else [method]
        models = list(model) if isinstance(model, list | tuple) else [cast(ModelLike | None, model)]
        each = [(cast(MethodLike | None, m), on) for on in models for m in methods]
        common: dict[str, Any] = {"task": task, "tokenizer": tokenizer, "progress": progress, **settings}
        return Runs([run(m, model=on, **common) for m, on in each])
    name, own = named_method(cast(MethodLike, method or "plain"))
    tasks = ("passkey",) if task is None else (task,) if isinstance(task, str) else tuple(task)
    called, load = named_model(cast(ModelLike | None, model) or "smollm2", tokenizer, settings)
    given = {**own, **({} if model is None else {"model": called}), **settings}
    wanted = _settings(name, tasks, given)
    with quietly(hushed(progress)), RunDisplay(run_in_words(name, wanted.model, wanted.tasks)) as display:
        plan = plan_run(wanted, display.note, load)
        result = execute(plan, display)
    summary = json.loads(json.dumps(result.summary))  # lists for tuples, as in `run.json`
    return Run(result.folder.path, summary, result.ran, dict(plan.unavailable))


def _settings(method: str, tasks: tuple[str, ...], given: dict[str, Any]) -> RunSettings:
    """The request, each argument given to whom it belongs."""
    from pydantic import TypeAdapter, ValidationError

    from .. import registry
    from ..evaluation.settings import RunSettings

    own = {f.name for f in dataclasses.fields(RunSettings)} - {"method", "options", "tasks"}
    options = registry.method(method).cls.Options.model_fields
    if clash := sorted(own & set(options)):
        raise UsageError(f"method {method}: its option {clash[0]!r} is a setting of every run; rename it")
    for name in given:
        if name not in own and name not in options:
            known = {"task", "tokenizer", "plugin", "progress", *own, *options}
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
