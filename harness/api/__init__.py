"""The verbs of the command line as functions: the same names, the same defaults, the same runs."""

from ._learning import check, fit, synth
from ._run import Run, Runs, run
from ._shown import Comparisons, Shown
from ._verbs import compare, export, import_runs, report, reproduce, score

__all__ = [
    "Comparisons",
    "Run",
    "Runs",
    "Shown",
    "check",
    "compare",
    "export",
    "fit",
    "import_runs",
    "report",
    "reproduce",
    "run",
    "score",
    "synth",
]
