"""Long training data that a model writes: what `harness synth` does."""

from .plan import plan_synthesis
from .run import estimate, execute
from .settings import SynthPlan, SynthSettings

__all__ = ["SynthPlan", "SynthSettings", "estimate", "execute", "plan_synthesis"]
