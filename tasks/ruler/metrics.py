"""RULER's two scores, by the official rules (NVIDIA/RULER, `scripts/eval`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .protocol import Metric

_CONTROL = re.compile("[\x00-\x1f]")


def cleaned(prediction: str) -> str:
    """The answer as it is compared: stripped, every ASCII control character made a newline, stripped again."""
    return _CONTROL.sub("\n", prediction.strip()).strip()


def score(metric: Metric, prediction: str, references: Sequence[str]) -> float:
    """``all``: share of the references that occur in the answer; ``part``: 1 if any does. 0..1.

    Occurring is being a substring, without regard to case: no word borders, no normalisation, so that "no"
    is in "know". Without references the score is 0.
    """
    answer = cleaned(prediction).lower()
    found = [reference.lower() in answer for reference in references]
    if metric == "part":
        return float(any(found))
    return sum(found) / len(found) if found else 0.0
