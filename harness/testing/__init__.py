"""Conformance: whether a method or a task keeps to its contract, tried on a tiny model.

A plugin's own test is three lines::

    from harness.testing import conformance_tests
    from my_package import MyMethod

    test_conformance = conformance_tests(MyMethod)

``harness check NAME`` runs the same checks from the command line.
"""

from ._pytest import conformance_tests
from ._results import Check, CheckResult
from .methods import METHOD_CHECKS, check_method
from .recipes import synthesize
from .tasks import TASK_CHECKS, check_task
from .tiny import make_model, make_tokenizer, tiny_model

__all__ = [
    "METHOD_CHECKS",
    "TASK_CHECKS",
    "Check",
    "CheckResult",
    "check_method",
    "check_task",
    "conformance_tests",
    "make_model",
    "make_tokenizer",
    "synthesize",
    "tiny_model",
]
