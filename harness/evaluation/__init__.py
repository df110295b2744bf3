"""From a request to records: plan, run, score, write."""

from .plan import RunPlan, plan_run
from .runner import RunResult, Watcher, execute
from .score_file import FileScores
from .settings import RunSettings
from .task_environment import task_environment

__all__ = [
    "FileScores",
    "RunPlan",
    "RunResult",
    "RunSettings",
    "Watcher",
    "execute",
    "plan_run",
    "task_environment",
]
