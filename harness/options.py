"""Options of methods and tasks: declared once as a pydantic model, checked once, shown everywhere."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from .errors import UsageError, unknown_name

O = TypeVar("O", bound="Options")  # noqa: E741

RESERVED_FLAGS = frozenset(
    f"--{name}"
    for name in (
        "adapter address allow-unused-weights batch-size budget chat chat-prompts context-length data "
        "data-dir device dry-run dtype engine epochs format join json learning-rate limit max-context "
        "max-length max-steps method methods micro-batch min-length model model-args offline out plugin "
        "protocol query-agnostic quick quiet sample-timeout save-config save-every seed set shard-base share "
        "skip-unavailable split-documents task tasks track trainer truncate trust-remote-code trust-task-code "
        "var warmup-steps workers"
    ).split()
)
"""Flags of ``harness run`` and ``harness fit``; no option of a method may be named like one."""


class Options(BaseModel):
    """Base of every options class: immutable, no unknown fields, ranges checked on construction.

    A list-valued field accepts a comma-separated string, so that ``--set passkey.lengths=4096,8192`` works.
    A number is taken for text that may be one, so that ``ratio=8`` works from Python and YAML.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _choice_by_number(cls, value: Any, info: ValidationInfo) -> Any:
        """A number that is written like one of the choices is that choice: ``bits=4`` for ``"4"``."""
        if type(value) is int and info.field_name is not None:
            parts = _parts(cls.model_fields[info.field_name].annotation)
            if any(str(value) in get_args(part) for part in parts if get_origin(part) is Literal):
                return str(value) if not any(value in get_args(p) for p in parts) else value
        return value

    @classmethod
    def parse(cls: type[O], values: Mapping[str, Any], owner: str) -> O:
        """Build from raw values (strings from the command line included).

        Raises
        ------
        UsageError
            One line naming the first option that is unknown or out of range, and the range.
        """
        known = cls.model_fields
        cleaned: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise unknown_name(f"option of {owner}", name, known)
            if isinstance(value, str) and is_list(known[name].annotation):
                value = [part.strip() for part in value.split(",") if part.strip()]
            cleaned[name] = value
        try:
            made = cls(**cleaned)
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            if message.partition(" ")[0][1:].islower():  # a word, not a name with capitals of its own
                message = f"{message[:1].lower()}{message[1:]}"
            if not first["loc"]:  # said of several options together
                raise UsageError(f"{owner}: {message}") from None
            name = str(first["loc"][0])
            raise UsageError(f"{owner}: option {name}={values.get(name)!r}: {message}") from None
        for name, value in made:
            if any(
                type(v) is int and abs(v) >= 2**63 for v in (value if isinstance(value, list) else [value])
            ):
                raise UsageError(
                    f"{owner}: option {name}={values.get(name)!r}: no number of so many bits is taken"
                )
        return made


def is_list(annotation: Any) -> bool:
    """Whether a field holds a list or tuple (possibly optional)."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return any(is_list(part) for part in get_args(annotation))
    return origin in (list, tuple) or annotation in (list, tuple)


def type_name(annotation: Any) -> str:
    """A field's type as a person writes it: ``int``, ``attention | bm25``, ``list of int``."""
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(arg) for arg in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " | ".join(type_name(part) for part in get_args(annotation) if part is not type(None))
    if origin in (list, tuple):
        return f"list of {type_name(get_args(annotation)[0])}"
    return getattr(annotation, "__name__", str(annotation))


def describe(options: type[Options]) -> list[dict[str, Any]]:
    """Each option as a JSON-ready row: name, type, range, choices, default, description."""
    rows = []
    for name, field in options.model_fields.items():
        limits = {}
        for constraint in field.metadata:
            for bound, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
                if (value := getattr(constraint, bound, None)) is not None:
                    limits[sign] = value
        choices = [
            c for part in _parts(field.annotation) if get_origin(part) is Literal for c in get_args(part)
        ]
        rows.append(
            {
                "name": name,
                "type": type_name(field.annotation),
                "range": " and ".join(f"{sign} {value}" for sign, value in limits.items()) or None,
                "choices": choices or None,
                "default": field.get_default(call_default_factory=True),
                "description": field.description or "",
            }
        )
    return rows


def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
