"""What is read from other tools' files, and its checks: one line for whatever is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as made_by
from pathlib import Path
from types import UnionType
from typing import Any

from ..contracts.record import SampleRecord
from ..errors import UsageError


@dataclass(frozen=True)
class ImportedTask:
    """A task as another tool asked it: `records` have ids, references, predictions and scores."""

    name: str
    version: str
    records: tuple[SampleRecord, ...]


@dataclass(frozen=True)
class Imported:
    """A run of another tool.

    Attributes
    ----------
    source
        The tool: ``lm-eval``, ``kvpress``, ``longbench``.
    model
        As the tool names it.
    facts
        What else it says of the run.
    path
        Where it was read from.
    method
        What to call the run's method; default: the tool.
    """

    source: str
    model: str
    tasks: tuple[ImportedTask, ...]
    facts: Mapping[str, Any] = made_by(default_factory=dict)
    path: Path = Path()
    method: str = ""


def one_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises UsageError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no JSON object")
    return found


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line of a file of JSON lines. Raises UsageError for the first that is none."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"{path} line {number}: not JSON ({error})") from None
                if not isinstance(row, dict):
                    raise UsageError(f"{path} line {number}: not a JSON object")
                yield number, row
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def field(row: Mapping[str, Any], name: str, kind: type | UnionType, where: Path | str) -> Any:
    """A field that must be there, of that type. Raises UsageError, with what the file is and what it lacks."""
    if name not in row:
        raise UsageError(f"{where}: field {name!r} is missing")
    if not isinstance(row[name], kind):
        raise UsageError(f"{where}: field {name!r} is of another type ({type(row[name]).__name__})")
    return row[name]
