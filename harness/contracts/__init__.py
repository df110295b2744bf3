"""What a method, task, recipe or report implements, receives and returns."""

from typing import TYPE_CHECKING

from .._util.lazy import lazily
from .method import Method
from .outputs import Decoding, Generation, Likelihood, Scored
from .phases import PHASES, phase
from .prompt import Head, Prompt, Tail, TokenizedPrompt
from .report import Report
from .task import Sample, ScoredSample, Task, TaskEnvironment

if TYPE_CHECKING:
    from .fit import Example, FitReport, Schedule, TrainingData
    from .recipe import Answer, Recipe, Request
    from .record import Failure, SampleRecord
    from .run import LoadedRun, LoadedRuns, RunTask

# fmt: off
__all__ = [  # noqa: RUF022  (one name a line would be all there is to see)
    "Answer", "Decoding", "Example", "Failure", "FitReport", "Generation", "Head", "Likelihood",
    "LoadedRun", "LoadedRuns", "Method", "PHASES", "Prompt", "Recipe", "Report", "Request", "RunTask",
    "Sample", "SampleRecord", "Schedule", "Scored", "ScoredSample", "Tail", "Task", "TaskEnvironment",
    "TokenizedPrompt", "TrainingData", "phase",
]
# fmt: on

_LATER = {
    ".fit": "Example FitReport Schedule TrainingData",
    ".recipe": "Answer Recipe Request",
    ".record": "Failure SampleRecord",
    ".run": "LoadedRun LoadedRuns RunTask",
}
__getattr__ = lazily(__name__, {name: module for module, names in _LATER.items() for name in names.split()})
