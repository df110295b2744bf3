"""Suites: a matrix of methods, tasks, models and seeds, as a file a person can read and edit.

`read` checks a YAML file against `Suite` and says in one line, with the file and the key, what is wrong. What
differs on a model (``models:``) or for a first look (``quick:``) is a piece of the same document that is laid
over it. `harness.suites.matrix` makes the cells of it, `harness.suites.run` carries them out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..training.settings import FitSettings
from .settings import TYPED, check_file, run_fields

KIND = "suites"

Scalar = str | int | float | bool


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paper(_Strict):
    """Where the set-up comes from, and the models it was published for."""

    source: str
    models: list[str] = Field(min_length=1)


class Fit(_Strict):
    """A fit that cells wait for; the words of ``harness fit``.

    ``adapter`` is what to go on from: ``auto`` (as `harness fit` does without one), ``none``, a folder, or
    ``fit:NAME``.
    """

    method: str
    data: list[str] = []
    options: dict[str, Any] = {}
    fit_options: dict[str, Any] = {}
    adapter: str = "auto"
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _known(self) -> Fit:
        check_file(self.settings, FitSettings)
        return self


class Cell(_Strict):
    """A row of the table: a method with its options, on tasks.

    Attributes
    ----------
    adapter
        ``auto`` (what ships for the model), ``none``, a folder, or ``fit:NAME`` of the suite's fits.
    tasks, task_settings, settings
        Where they differ from the suite's.
    matrix
        Lists; the cell stands for one cell of each combination. A name is ``method``, ``task``, a field of
        the run, or else an option of the method. ``{name}`` in the label is its value.
    only
        Models the cell exists on; None: all.
    published
        The label of the published row, if it is not `label`; an empty one: there is none.
    note
        A remark under the table.
    """

    label: str
    method: str
    options: dict[str, Any] = {}
    adapter: str = "auto"
    tasks: list[str] | None = None
    task_settings: dict[str, dict[str, Any]] = {}
    settings: dict[str, Any] = {}
    matrix: dict[str, list[Any]] = {}
    only: list[str] | None = None
    published: str | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _known(self) -> Cell:
        check_file(self.settings)
        for name, values in self.matrix.items():
            if name in run_fields() or name in TYPED:
                for value in values:
                    check_file({name: value}, key="matrix")
            if name in ("model", "tasks", "task_settings"):
                raise ValueError(f"matrix.{name}: say it under the suite's settings (a list of models works)")
            if not values:
                raise ValueError(f"matrix.{name}: give at least one value")
        return self


class Column(_Strict):
    """A column of the table: the unweighted mean over tasks of one metric (None: each task's main one).

    ``where`` keeps the samples whose metadata hold these values, as ``{length: 4096}``.
    """

    key: str
    heading: str | None = None
    tasks: list[str] = Field(min_length=1)
    metric: str | None = None
    where: dict[str, Scalar] = {}


class Finding(_Strict):
    """What the paper claims, as something the samples can speak for or against.

    Either `better` and `worse` (cells), or `increasing`: cells of which each is said to be at least as good
    as the one before. `column` names the column whose samples decide.
    """

    claim: str
    column: str
    better: str | None = None
    worse: str | None = None
    increasing: list[str] = []

    @model_validator(mode="after")
    def _one_form(self) -> Finding:
        pair = self.better is not None and self.worse is not None
        if pair == bool(self.increasing) or (self.better is None) != (self.worse is None):
            raise ValueError("give either better and worse, or increasing")
        if self.increasing and len(self.increasing) < 3:
            raise ValueError("increasing needs three cells or more")
        return self


class Suite(_Strict):
    """A whole suite; the keys of the file.

    Attributes
    ----------
    published
        Name of the published table that it is held against.
    vars
        Values for ``${name}`` anywhere in the file, which the user may set.
    settings
        Fields of a run, for all cells; model and seed may be lists.
    defaults
        Options of a method, by its name, where a cell says nothing else.
    transposed
        Whether the table has the cells across and the columns down.
    figure
        A fact of the samples (``length``) over which the columns that pick its values are drawn.
    notes
        Lines under the table.
    models, quick
        What is laid over the document on a model, and for a first look.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    title: str
    paper: Paper | None = None
    published: str | None = None
    vars: dict[str, Scalar] = {}
    settings: dict[str, Any] = {}
    defaults: dict[str, dict[str, Any]] = {}
    fits: dict[str, Fit] = {}
    cells: dict[str, Cell] = Field(min_length=1)
    columns: list[Column] = Field(min_length=1)
    transposed: bool = False
    figure: str | None = None
    findings: list[Finding] = []
    notes: list[str] = []
    models: dict[str, dict[str, Any]] = {}
    quick: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        for name in SEVERAL:
            if self.settings.get(name) == []:
                raise ValueError(f"settings.{name}: give at least one value")
        for row in each(self.settings):
            check_file(row)
        keys = [c.key for c in self.columns]
        if len(set(keys)) < len(keys):
            raise ValueError("columns: a key is there twice")
        for finding in self.findings:
            if finding.column not in keys:
                raise ValueError(f"findings: {finding.column!r} is the key of no column")
        return self


SEVERAL = ("model", "seed")
"""Settings that may be lists: of each model and seed there is a run."""


def each(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings with one model and one seed each, in the order of the lists."""
    lists = [settings[k] if isinstance(settings.get(k), list) else [settings.get(k)] for k in SEVERAL]
    rows = [dict(zip(SEVERAL, values)) for values in itertools.product(*lists)]
    return [{**settings, **{k: v for k, v in row.items() if v is not None}} for row in rows]
