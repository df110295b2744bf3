"""A suite as tests: one for each check, so that a report names what broke."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ._results import FAILED, OK, Suite

if TYPE_CHECKING:
    from ..contracts.method import Method
    from ..contracts.task import Task


def conformance_tests(
    plugin: str | type[Method] | type[Task], options: Mapping[str, Any] | None = None, **more: Any
) -> Callable[[str], None]:
    """A test function for pytest, one case a check; assign it to a name that begins with ``test``.

    Parameters
    ----------
    plugin
        The class of a method or a task, or the name of a method.
    options
        Its options; the defaults if nothing is said.
    more
        As for `check_method` or `check_task`.

    Examples
    --------
    >>> test_conformance = conformance_tests(MyMethod, {"recent": 64})  # doctest: +SKIP
    """
    import pytest

    suite = _suite(plugin, options, more)

    @pytest.mark.parametrize("check", suite.select())
    def test_conformance(check: str) -> None:
        found = suite.result(check)
        if found.status == FAILED:
            pytest.fail(f"{found.name}: {found.reason}", pytrace=False)
        if found.status != OK:
            pytest.skip(f"{found.status}: {found.reason}")

    return test_conformance


def _suite(plugin: Any, options: Mapping[str, Any] | None, more: dict[str, Any]) -> Suite[Any]:
    from ..contracts.task import Task
    from .methods import method_suite
    from .tasks import task_suite

    if isinstance(plugin, type) and issubclass(plugin, Task):
        return task_suite(plugin, options, **more)
    return method_suite(plugin, options, **more)
