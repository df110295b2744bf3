"""A plugin-based evaluation harness for long-context methods: every number proves itself."""

from .errors import HarnessError, MeasurementError, UsageError
from .method import Decoding, Generation, Method
from .options import Options
from .prompt import Prompt, TokenizedPrompt
from .report import Report
from .task import Sample, ScoredSample, Task, TaskEnvironment

__version__ = "0.1.0"

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
]
