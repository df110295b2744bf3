"""What a method, task, recipe or report implements, receives and returns."""

from .fit import Example, FitReport, Schedule, TrainingData
from .method import Method
from .outputs import Decoding, Generation, Likelihood, Scored
from .phases import PHASES, phase
from .prompt import Prompt, TokenizedPrompt
from .recipe import (
    Answer,
    Draft,
    Dropped,
    Items,
    LengthRange,
    NoItems,
    Part,
    Passage,
    Recipe,
    Request,
    Stage,
    TooShort,
)
from .record import Failure, SampleRecord
from .report import Report
from .run import LoadedRun, LoadedRuns, RunTask
from .task import Sample, ScoredSample, Task, TaskEnvironment

# fmt: off
__all__ = [  # noqa: RUF022  (one name a line would be all there is to see)
    "Answer", "Decoding", "Draft", "Dropped", "Example", "Failure", "FitReport", "Generation", "Items",
    "LengthRange", "Likelihood", "LoadedRun", "LoadedRuns", "Method", "NoItems", "PHASES", "Part",
    "Passage", "Prompt", "Recipe", "Report", "Request", "RunTask", "Sample", "SampleRecord", "Schedule",
    "Scored", "ScoredSample", "Stage", "Task", "TaskEnvironment", "TokenizedPrompt", "TooShort",
    "TrainingData", "phase",
]
# fmt: on
