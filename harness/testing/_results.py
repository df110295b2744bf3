"""What a check is, and what comes of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import unknown_name

T = TypeVar("T")

OK, FAILED, SKIPPED, NOT_APPLICABLE = "ok", "failed", "skipped", "not applicable"


class Failed(AssertionError):
    """A check's verdict: one sentence on what was seen, one on what to do."""


class NotApplicable(Exception):
    """There is nothing to check, and why."""


@dataclass(frozen=True)
class Check(Generic[T]):
    """One thing that a plugin must keep to.

    Attributes
    ----------
    name
        What ``--only`` takes.
    proves
        What is known once it has passed, in a sentence.
    run
        Given what is tried; returns a fact worth showing (or nothing), raises `Failed` or `NotApplicable`.
    needs
        Checks without which this one would blame the wrong thing: it is skipped if one of them failed.
    """

    name: str
    proves: str
    run: Callable[[T], str]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """What came of one check.

    Attributes
    ----------
    status
        ``"ok"``, ``"failed"``, ``"skipped"`` (a check it builds on failed) or ``"not applicable"``.
    reason
        What was seen and what to fix; why there was nothing to check; or, if it passed, a fact.
    """

    name: str
    proves: str
    status: str
    reason: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against the plugin."""
        return self.status in (OK, NOT_APPLICABLE)


@dataclass
class Suite(Generic[T]):
    """Checks of one plugin; each is run once, after those it builds on.

    Attributes
    ----------
    trial
        What the checks are given: made on first use, so that collecting tests costs nothing.
    """

    checks: Sequence[Check[T]]
    trial: Callable[[], T]
    _made: list[T] = field(default_factory=list)
    _results: dict[str, CheckResult] = field(default_factory=dict)

    def known(self, name: str) -> object:
        """What the trial's checks made for each other under that name; None if there was no trial."""
        return getattr(self._made[0], "shared", {}).get(name) if self._made else None

    def select(self, only: Sequence[str] = ()) -> list[str]:
        """Names of the checks asked for, in the suite's order; all if none is named. Raises UsageError."""
        names = [check.name for check in self.checks]
        for name in only:
            if name not in names:
                raise unknown_name("check", name, names)
        return [name for name in names if not only or name in only]

    def result(self, name: str) -> CheckResult:
        """The result of one check."""
        if name not in self._results:
            [check] = [check for check in self.checks if check.name == name]
            self._results[name] = self._run(check)
        return self._results[name]

    def _run(self, check: Check[T]) -> CheckResult:
        if bad := [self.result(need) for need in check.needs if not self.result(need).ok]:
            # What was skipped itself names what failed.
            reason = bad[0].reason
            if bad[0].status != SKIPPED:
                reason = f"{waits_for(bad[0].name)} ({bad[0].reason})"
            return CheckResult(check.name, check.proves, SKIPPED, reason)
        began = time.perf_counter()
        status, reason = OK, ""
        try:
            if not self._made:
                self._made.append(self.trial())
            reason = check.run(self._made[0])
        except NotApplicable as error:
            status, reason = NOT_APPLICABLE, str(error)
        except Failed as error:
            status, reason = FAILED, str(error)
        except Exception as error:
            status, reason = FAILED, f"{raised(error)}; the check cannot go on before that is mended"
        return CheckResult(check.name, check.proves, status, reason, time.perf_counter() - began)


def waits_for(name: str) -> str:
    """How the reason of a skipped check begins, which builds on the check of that name."""
    return f"says nothing while {name} fails"


def raised(error: BaseException) -> str:
    """An exception in a line: its type, its words, and the innermost place it came from."""
    words = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {words}{where}"
