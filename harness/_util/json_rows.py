"""Rows of data that people have written: JSON, each field of an object once."""

from __future__ import annotations

import json
from typing import Any


def json_row(text: str | bytes) -> Any:
    """The value of a line of JSON.

    Raises
    ------
    ValueError
        If it is none, or an object has a field twice: of two answers json takes the second and says nothing.
    RecursionError
        If it is nested too deep.
    """
    return json.loads(text, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {twice!r} stands twice")
    return found
