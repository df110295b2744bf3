"""Whether a run is better or worse than another, sample by sample."""

from .averages import PLAIN_MEAN, average_weights
from .gate import Gate, gate
from .headline import Finding, Headline, headline
from .ranking import unbeaten
from .rows import Comparison, Row
from .verdicts import compare, compare_all, compare_many

# fmt: off
__all__ = [
    "PLAIN_MEAN", "Comparison", "Finding", "Gate", "Headline", "Row", "average_weights", "compare", "compare_all",
    "compare_many", "gate", "headline", "unbeaten",
]
# fmt: on
