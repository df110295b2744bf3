"""Many runs and fits from one YAML file."""

from .matrix import spell
from .outcome import SuiteOutcome, read_outcome
from .plan import plan_suite
from .planned import SuitePlan
from .run import carry_out
from .schema import Suite

__all__ = ["Suite", "SuiteOutcome", "SuitePlan", "carry_out", "plan_suite", "read_outcome", "spell"]
