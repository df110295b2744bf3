"""The file of a suite: found, read, merged with variables."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from .._util import artifacts
from .._util.yaml import read_yaml
from ..errors import UsageError, unknown_name
from .schema import KIND, Cell, Column, Finding, Fit, Paper, Scalar, Suite
from .settings import in_words

_VARIABLE = re.compile(r"\$\{(\w+)\}")


_PARTS: dict[Any, type[BaseModel]] = {
    "paper": Paper,
    "fits": Fit,
    "cells": Cell,
    "columns": Column,
    "findings": Finding,
}


def names() -> dict[str, Path]:
    """Suites that ship, by name."""
    found: dict[str, Path] = {}
    for folder in artifacts.folders():
        for path in sorted((folder / KIND).glob("*.yaml"), key=lambda file: file.stem):
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
    return checked(path, read_yaml(path))


def checked(path: Path, content: Any) -> Document:
    """What a file holds as a suite, checked as it stands. Raises UsageError as `read` does."""
    if not isinstance(content, dict):
        raise UsageError(
            f"{path}: not a suite; it begins with 'name:' (and the file of a run with 'method:')"
        )
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
        if name in found:
            raise UsageError(f"--var {name} is given twice; give it once")
        found[name] = value
    return found
