"""Whether a run is better or worse than another, sample by sample."""

from .averages import PLAIN_MEAN, average_weights
from .gate import Gate, gate
from .ranking import unbeaten
from .rows import Comparison, Row
from .verdicts import compare, compare_many

__all__ = [
    "PLAIN_MEAN",
    "Comparison",
    "Gate",
    "Row",
    "average_weights",
    "compare",
    "compare_many",
    "gate",
    "unbeaten",
]
