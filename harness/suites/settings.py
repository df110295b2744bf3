"""Settings of runs and fits as a suite's file may say them: checked by the types of the dataclasses they become."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ..errors import unknown_name
from ..evaluation.settings import RunSettings

EMPTY: Mapping[Any, type[BaseModel]] = MappingProxyType({})
OF_A_CELL = frozenset(("method", "options", "adapter"))
"""Fields of a run that a cell says itself."""
TYPED = {
    "trust_remote_code": "only whoever runs a suite may say so: --trust-remote-code",
    "trust_task_code": "only whoever runs a suite may say so: --trust-task-code",
    "trainer": "arguments of the trainer can send files away: give them to harness fit",
}
"""Settings that no file may hold: it may be a stranger's."""


@cache
def _fields(cls: type, without: frozenset[str]) -> type[BaseModel]:
    """A model of a dataclass's fields, each of which may be left out: its types are said once."""
    hints = get_type_hints(cls)
    wanted = [f.name for f in dataclasses.fields(cls) if f.name not in without]
    fields: dict[str, Any] = {name: (hints[name] | None, None) for name in wanted}
    return create_model(cls.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def run_fields() -> frozenset[str]:
    """What ``settings`` may hold: the fields of `RunSettings` that no cell says itself."""
    return frozenset(_fields(RunSettings, OF_A_CELL).model_fields)


def checked_settings(
    values: Mapping[str, Any], cls: type = RunSettings, key: str = "settings"
) -> dict[str, Any]:
    """`values` as the fields of `cls` have them (paths, tuples). Raises ValueError, which begins with the key."""
    without = OF_A_CELL if cls is RunSettings else frozenset(("method", "options", "fit_options", "out"))
    model = _fields(cls, without)
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join((key, *map(str, first["loc"])))
        raise ValueError(f"{where}: {in_words(first, model)}") from None
    return {name: getattr(made, name) for name in values}


def check_file(values: Mapping[str, Any], cls: type = RunSettings, key: str = "settings") -> None:
    """Check settings that stand in a file. Raises ValueError."""
    for name in values:
        if name in TYPED:
            raise ValueError(f"{key}.{name}: {TYPED[name]}")
    checked_settings(values, cls, key)


def in_words(error: Any, model: type[BaseModel], parts: Mapping[Any, type[BaseModel]] = EMPTY) -> str:
    """What pydantic found wrong, in a person's words; `parts` are the models of a model's keys."""
    if error["type"] == "extra_forbidden":
        for name in error["loc"][:-1]:
            model = parts.get(name, model)
        name = str(error["loc"][-1])
        return str(unknown_name("key", name, model.model_fields))
    if error["type"] == "missing":
        return "is missing"
    message = " ".join(error["msg"].removeprefix("Value error, ").split())
    return f"{message[:1].lower()}{message[1:]}".replace("valid dictionary", "mapping").partition(
        " or instance"
    )[0]
