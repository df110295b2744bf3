"""The command line: ``harness VERB``, one module a verb."""

from ._main import VERBS, cli, complain, invoke, main

__all__ = ["VERBS", "cli", "complain", "invoke", "main"]
