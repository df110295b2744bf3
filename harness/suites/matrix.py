"""The cells of a suite: its matrix spelled out, each cell as the run settings that `harness run` would have."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import UsageError, unknown_name
from ..evaluation.settings import RunSettings, check_values
from ..models.adapters import NO_ADAPTER
from .document import Document
from .schema import Cell, Scalar, Suite, each
from .settings import checked_settings, run_fields

SHIPPED = "auto"
FITTED = "fit:"
_FIELD = re.compile(r"\{(\w+)\}")
MOST = 2_000
"""Runs of a suite: more is a slip in a matrix."""


@dataclass(frozen=True)
class Row:
    """A row of the table: one cell on one model, run once for each seed.

    Attributes
    ----------
    id
        The cell's key, with the values of its matrix: ``two_pass/1.5``.
    published
        Label of the published row; None: there is none.
    fit
        Name of the fit whose adapter the runs wait for.
    runs
        Settings of each run; their `adapter` is None where `fit` says it.
    """

    id: str
    label: str
    model: str
    published: str | None
    fit: str | None
    note: str | None
    runs: tuple[RunSettings, ...]


@dataclass(frozen=True)
class Spelled:
    """A suite on its models, ready to be planned.

    Attributes
    ----------
    suites
        The suite as it is on each model, by the model's name, in order.
    columns
        Tasks of each column by the column's key, families spelled out.
    """

    suites: dict[str, Suite]
    rows: tuple[Row, ...]
    columns: dict[str, tuple[str, ...]]
    quick: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def suite(self) -> Suite:
        """The suite as it is on the first model: titles, columns and findings."""
        return next(iter(self.suites.values()))


def spell(
    document: Document,
    overrides: Mapping[str, Any],
    *,
    quick: bool = False,
    variables: Mapping[str, Scalar] | None = None,
) -> Spelled:
    """All rows of a suite.

    Parameters
    ----------
    overrides
        Fields of `RunSettings` that the user typed: they go before the file's. A ``max_context`` only lowers
        that of a cell which has its own.

    Raises
    ------
    UsageError
        One line: a key of the file, a name that nothing has, a cell that is there twice.
    """
    check_values(RunSettings(**overrides))  # before whatever else is wrong with each of many cells
    plain = document.suite(quick=quick, variables=variables)
    models = _listed(overrides.get("model") or plain.settings.get("model") or RunSettings.model)
    suites = {m: document.suite(m, quick=quick, variables=variables) for m in models}
    rows: list[Row] = []
    for model, suite in suites.items():
        if (count := _count(suite)) > MOST:
            raise UsageError(f"{document.path}: {count:,} runs on {model}; a suite may have {MOST:,}")
        others = {**overrides, "model": model}
        made = [row for key, cell in suite.cells.items() for row in _rows(suite, key, cell, others)]
        if len({row.id for row in made}) < len(made):
            raise UsageError(f"{document.path}: a cell is there twice; give each matrix its own key")
        rows += made
    if not rows:
        raise UsageError(f"{document.path}: no cell is meant for model {', '.join(models)}")
    first = next(iter(suites.values()))
    _check_findings(first, {row.id for row in rows}, document.path)
    columns = {c.key: _members(c.tasks, overrides.get("task_settings", {})) for c in first.columns}
    return Spelled(suites, tuple(rows), columns, quick, dict(overrides))


def _members(tasks: Sequence[str], typed: Mapping[str, Any]) -> tuple[str, ...]:
    """Tasks by their own names, groups spelled out; `typed` options may name files that a group stands in."""
    families = {name.partition(":")[0].partition("/")[0] for name in tasks}
    settings = {family: words(options) for family, options in typed.items() if family in families}
    return tuple(task.name for task in registry.tasks(list(tasks), settings))


def _count(suite: Suite) -> int:
    """Runs of a suite on one model, without spelling them out."""
    seeds = len(_listed(suite.settings.get("seed")))
    return seeds * sum(math.prod(map(len, cell.matrix.values())) for cell in suite.cells.values())


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_findings(suite: Suite, ids: set[str], path: Path) -> None:
    for finding in suite.findings:
        for name in (finding.better, finding.worse, *finding.increasing):
            cell = (name or "").partition("/")[0]
            meant = suite.cells.get(cell)
            if name is not None and name not in ids and (meant is None or meant.only is None):
                raise unknown_name(f"cell (in the findings of {path.name})", name, ids)


def _rows(suite: Suite, key: str, cell: Cell, overrides: Mapping[str, Any]) -> Iterator[Row]:
    from .document import same_model

    model = str(overrides["model"])
    if cell.only is not None and not any(same_model(m, model) for m in cell.only):
        return
    for values in itertools.product(*cell.matrix.values()):
        named = dict(zip(cell.matrix, values))
        label = _FIELD.sub(lambda m: _text(named.get(m[1], m[0])), cell.label)  # noqa: B023
        published = cell.label if cell.published is None else cell.published
        published = _FIELD.sub(lambda m: _text(named.get(m[1], m[0])), published)  # noqa: B023
        adapter = str(named.get("adapter", cell.adapter))
        fit = adapter.removeprefix(FITTED) if adapter.startswith(FITTED) else None
        if fit is not None and fit not in suite.fits:
            raise unknown_name(f"fit (of cell {key})", fit, suite.fits)
        runs = tuple(_settings(suite, cell, named, adapter, overrides))
        yield Row(
            id="/".join([key, *map(_text, values)]),
            label=label,
            model=model,
            published=published or None,
            fit=fit,
            note=cell.note,
            runs=runs,
        )


def _settings(
    suite: Suite, cell: Cell, named: Mapping[str, Any], adapter: str, overrides: Mapping[str, Any]
) -> Iterator[RunSettings]:
    """The run of each seed."""
    method = str(named.get("method", cell.method))
    own: dict[str, Any] = {**cell.settings}
    options = dict(cell.options)
    for name, value in named.items():
        if name == "task":
            own["tasks"] = _listed(value)
        elif name in run_fields():
            own[name] = value
        elif name not in ("method", "adapter"):
            options[name] = value
    if cell.tasks is not None:
        own.setdefault("tasks", cell.tasks)
    seeds = {"seed": own.pop("seed")} if "seed" in own else {}
    for values in each({**suite.settings, **seeds, **overrides}):
        settings = {**values, **own, **{k: v for k, v in overrides.items() if k not in ("seed",)}}
        if (limit := overrides.get("max_context")) is not None and own.get("max_context"):
            settings["max_context"] = min(limit, own["max_context"])
        tasks = settings.get("tasks", RunSettings.tasks)
        yield RunSettings(
            method=method,
            options=words({**suite.defaults.get(method, {}), **options}),
            adapter=_adapter(adapter),
            **{
                **checked_settings(settings),
                "tasks": tuple(tasks),
                "task_settings": _task_settings(tasks, suite.settings, cell, overrides),
            },
        )


def _task_settings(
    tasks: Sequence[str], shared: Mapping[str, Any], cell: Cell, overrides: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Options of the families asked for; the suite may say those of families that a cell does not ask."""
    families = {name.partition(":")[0].partition("/")[0] for name in tasks}
    for layer in (shared.get("task_settings", {}), cell.task_settings):
        for family in families & set(layer):
            refuse_code(family, layer[family])
    found: dict[str, dict[str, Any]] = {}
    for layer in (shared.get("task_settings", {}), cell.task_settings, overrides.get("task_settings", {})):
        for family, options in layer.items():
            if family in families:
                found[family] = {**found.get(family, {}), **words(options)}
    return found


def refuse_code(family: str, options: Mapping[str, Any]) -> None:
    """Refuse options by which a file, which may be a stranger's, would have its own code run."""
    fields = registry.task_class(family)[0].cls.Options.model_fields
    for name, value in options.items():
        extra = fields[name].json_schema_extra if name in fields else None
        if value is not None and isinstance(extra, Mapping) and extra.get("runs_code"):
            raise UsageError(
                f"task_settings.{family}.{name}: files there may run code, so no suite may name them; say so yourself: "
                f"harness run --set {family}.{name}=..."
            )


def words(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the command line would have given them, so that a run is the same run however it was asked for.

    A null takes an option away: the method's own default holds.
    """
    return {name: _word(value) for name, value in options.items() if value is not None}


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _adapter(value: str) -> Path | None:
    if value == SHIPPED or value.startswith(FITTED):
        return None
    return Path(value).expanduser() if value != NO_ADAPTER else Path(NO_ADAPTER)


def with_adapter(settings: RunSettings, adapter: Path) -> RunSettings:
    """The same run with the adapter that a fit has made."""
    return dataclasses.replace(settings, adapter=adapter)
