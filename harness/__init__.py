"""A plugin-based evaluation harness for long-context methods: every number proves itself."""

import warnings
from typing import TYPE_CHECKING

from . import _moved
from ._util.lazy import lazily
from ._version import __version__
from .contracts.method import Method
from .contracts.outputs import Decoding, Generation
from .contracts.prompt import Prompt, TokenizedPrompt
from .contracts.report import Report
from .contracts.task import Sample, ScoredSample, Task, TaskEnvironment
from .errors import HarnessError, MeasurementError, UsageError
from .options import Options

if TYPE_CHECKING:
    from .api import check, compare, export, fit, import_runs, report, reproduce, run, score, synth
    from .results.loading import load_runs

__all__ = [
    "Decoding",
    "Generation",
    "HarnessError",
    "MeasurementError",
    "Method",
    "Options",
    "Prompt",
    "Report",
    "Sample",
    "ScoredSample",
    "Task",
    "TaskEnvironment",
    "TokenizedPrompt",
    "UsageError",
    "__version__",
    "check",
    "compare",
    "export",
    "fit",
    "import_runs",
    "load_runs",
    "report",
    "reproduce",
    "run",
    "score",
    "synth",
]

_VERBS = ("check", "compare", "export", "fit", "import_runs", "report", "reproduce", "run", "score", "synth")
_LATER = {"load_runs": ".results.loading", **dict.fromkeys(_VERBS, ".api")}
__getattr__ = lazily(__name__, _LATER)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


_moved.install()
# tqdm's, as libraries import it in a notebook without widgets: none of its bars is shown.
warnings.filterwarnings("ignore", message="IProgress not found")
