"""Errors the user can act on.

Whatever a user did, named or supplied wrongly is a :class:`UsageError`: the command line prints its one
line and exits 2, without a traceback. Anything else that escapes is a defect of the harness.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class HarnessError(Exception):
    """Base of the errors with a message for the user; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(HarnessError):
    """The request cannot be carried out as given: one line says what is wrong and what to do. Exit 2."""

    exit_code = 2


class Unavailable(UsageError):
    """A task cannot be asked here: its data are not there, or its answers do not fit. Others of its group can."""


class NotInstalled(UsageError):
    """What was asked for needs an optional package that is not here: the line says how to get it."""


class MeasurementError(HarnessError):
    """What was measured contradicts what a method declared; the run's numbers must not be believed."""


class NotFiniteError(HarnessError):
    """The model computed something that is no number: what it would answer means nothing."""


def in_words(error: Exception) -> str:
    """Somebody's exception in one line: its class, what it says, and where it was raised."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"{said}, {Path(where.filename).name}:{where.lineno}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not registered: says so and offers the nearest match.

    Parameters
    ----------
    kind
        What the name should have been, in the singular: ``"method"``, ``"task"``.
    name
        What the user wrote.
    known
        Every name that would have been accepted.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return UsageError(f"no {kind} named {name!r}; {hint}")
