"""The protocol that a method is held to where lm-eval asks."""

from __future__ import annotations

from typing import Any

from ..contracts.method import Method
from ..errors import UsageError
from ..evaluation.settings import RunSettings, check_values


def hold(
    method: Method,
    name: str,
    protocol: str,
    query_agnostic: bool,
    max_context: int | None,
    budget: int | str | None,
) -> dict[str, Any]:
    """Check what was asked of a method, and let it work without questions if that was asked.

    Returns what of it can change an answer. Raises UsageError for what no run can have, or this method cannot.
    """
    limit = None if max_context is None else int(max_context)
    check_values(
        RunSettings(protocol=protocol, query_agnostic=bool(query_agnostic), max_context=limit, budget=budget)
    )
    if protocol == "after" and not method.two_phase:
        raise UsageError(
            f"protocol=after: {name} does not compress a context apart from the question; protocol=before runs it once "
            "for each"
        )
    blind = bool(query_agnostic) or protocol == "after"
    if blind:
        method.make_query_agnostic()
    told = {"query_agnostic": True} if blind and method.sees_question else {}
    return {**told, **({} if limit is None else {"max_context": limit})}
