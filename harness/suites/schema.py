"""Suites: a matrix of methods, tasks, models and seeds, as a file a person can read and edit.

`read` checks a YAML file against `Suite` and says in one line, with the file and the key, what is wrong. What
differs on a model (``models:``) or for a first look (``quick:``) is a piece of the same document that is laid
over it. `harness.matrix` makes the cells of it, `harness.suiterun` carries them out.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ._suite_settings import TYPED, check_file, in_words, run_fields
from ._util import artifacts
from ._yaml import read_yaml
from .errors import UsageError, unknown_name
from .training.settings import FitSettings

KIND = "suites"
_VARIABLE = re.compile(r"\$\{(\w+)\}")

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


_PARTS: dict[Any, type[BaseModel]] = {
    "paper": Paper,
    "fits": Fit,
    "cells": Cell,
    "columns": Column,
    "findings": Finding,
}

SEVERAL = ("model", "seed")
"""Settings that may be lists: of each model and seed there is a run."""


def each(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings with one model and one seed each, in the order of the lists."""
    lists = [settings[k] if isinstance(settings.get(k), list) else [settings.get(k)] for k in SEVERAL]
    rows = [dict(zip(SEVERAL, values)) for values in itertools.product(*lists)]
    return [{**settings, **{k: v for k, v in row.items() if v is not None}} for row in rows]


def names() -> dict[str, Path]:
    """Suites that ship, by name."""
    found: dict[str, Path] = {}
    for folder in artifacts.folders():
        for path in sorted((folder / KIND).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def find(name: str) -> Path:
    """The file of a suite that ships. Raises UsageError for an unknown name."""
    known = names()
    if name not in known:
        raise unknown_name("suite", name, known)
    return known[name]


@dataclasses.dataclass(frozen=True)
class Document:
    """A suite as it was read: the file, and what stands in it; one that is well-formed by `Suite`."""

    path: Path
    content: dict[str, Any]

    def suite(
        self, model: str | None = None, *, quick: bool = False, variables: Mapping[str, Scalar] | None = None
    ) -> Suite:
        """The suite as it is on `model`, for a first look if `quick`, with the user's variables.

        Raises
        ------
        UsageError
            One line with the file and the key.
        """
        content = copy.deepcopy(self.content)
        for name, patch in content.pop("models", {}).items():
            if model is not None and same_model(name, model):
                content = merged(content, patch)
        patch = content.pop("quick", {})
        if not isinstance(patch, dict):
            raise UsageError(f"{self.path}: quick: must be a mapping")
        if quick:
            if not patch:
                raise UsageError(f"{self.path}: it has no quick form (no key 'quick')")
            content = merged(content, patch)
        known = content.get("vars", {})
        if not isinstance(known, dict):
            raise UsageError(f"{self.path}: vars: must be a mapping")
        for name, value in known.items():
            if not isinstance(value, Scalar):
                raise UsageError(f"{self.path}: vars.{name}: must be text, a number, true or false")
            if isinstance(value, str) and _VARIABLE.search(value):
                raise UsageError(
                    f"{self.path}: vars.{name}: a variable cannot use another, as {value!r} does"
                )
        for name in variables or {}:
            if name not in known:
                raise unknown_name(f"variable of {self.path.name}", name, known)
        content["vars"] = {**known, **(variables or {})}
        content = self._filled(content, content["vars"], ())
        return _validated(content, self.path)

    def _filled(self, value: Any, known: Mapping[str, Scalar], where: tuple[str, ...]) -> Any:
        """`value` with ``${name}`` replaced; a text that is nothing else takes the variable's own type."""
        if isinstance(value, dict):
            return {k: self._filled(v, known, (*where, str(k))) for k, v in value.items()}
        if isinstance(value, list):
            return [self._filled(v, known, (*where, str(i))) for i, v in enumerate(value)]
        if not isinstance(value, str):
            return value
        for name in _VARIABLE.findall(value):
            if name not in known:
                raise UsageError(f"{self.path}: {'.'.join(where)}: no variable {name!r} under vars")
        whole = _VARIABLE.fullmatch(value)
        return known[whole[1]] if whole else _VARIABLE.sub(lambda m: str(known[m[1]]), value)


def read(path: Path) -> Document:
    """A suite file, checked as it stands.

    Raises
    ------
    UsageError
        One line: the file cannot be read, is no YAML (see `read_yaml`), or a key is unknown, missing, there twice
        or of another type.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path}: not a suite; it begins with 'name:'")
    document = Document(path, content)
    _validated({k: v for k, v in content.items() if k not in ("models", "quick")}, path)
    for key in ("models", "quick"):
        if not isinstance(content.get(key, {}), dict):
            raise UsageError(f"{path}: {key}: must be a mapping")
    for model, patch in content.get("models", {}).items():
        if not isinstance(patch, dict):
            raise UsageError(f"{path}: models.{model}: must be a mapping")
    return document


def _validated(content: dict[str, Any], path: Path) -> Suite:
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        first, *others = error.errors()
        where, words = first["loc"], in_words(first, Suite, _PARTS)
        if any(
            other["loc"][:-1] == where[:-1] and where[-1] == "str" for other in others
        ):  # none of `Scalar`
            where, words = where[:-1], "must be text, a number, true or false"
        raise UsageError(": ".join([str(path), *filter(None, [".".join(map(str, where))]), words])) from None


def merged(base: Any, patch: Any) -> Any:
    """`patch` laid over `base`: mappings are joined key by key, anything else is replaced; null takes away."""
    if not (isinstance(base, Mapping) and isinstance(patch, Mapping)):
        return patch
    found = dict(base)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def same_model(one: str, other: str) -> bool:
    """Whether two names mean one model: a Hub id, with or without revision, and a folder of its name do."""
    return _short(one) == _short(other)


def _short(model: str) -> str:
    return Path(model.partition("@")[0]).name.lower()


def variables(pairs: Sequence[str]) -> dict[str, Scalar]:
    """``("redpajama=rp.jsonl",)`` to a mapping. Raises UsageError for another form."""
    found: dict[str, Scalar] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name):
            raise UsageError(f"--var {pair}: write NAME=VALUE, for instance redpajama=redpajama.jsonl")
        found[name] = value
    return found
