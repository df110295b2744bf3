"""From data sources to an adapter folder: what `harness fit` does."""

from ..contracts.fit import Example, FitReport, Schedule, TrainingData
from .plan import FitPlan, plan_fit
from .run import FitResult, FitView, execute
from .settings import FitSettings

# fmt: off
__all__ = [
    "Example", "FitPlan", "FitReport", "FitResult", "FitSettings", "FitView", "Schedule", "TrainingData",
    "execute", "plan_fit",
]
# fmt: on
