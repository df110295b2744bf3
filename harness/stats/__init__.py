"""Intervals and paired tests."""

from .bootstrap import (
    average_interval,
    clustered,
    confidence_interval,
    drawn_means,
    mean,
    percentiles,
    student,
    wilson,
)
from .paired import SignFlips, difference_interval, holm, mcnemar, sign_flips
from .power import detectable_difference, samples_needed

__all__ = [
    "SignFlips",
    "average_interval",
    "clustered",
    "confidence_interval",
    "detectable_difference",
    "difference_interval",
    "drawn_means",
    "holm",
    "mcnemar",
    "mean",
    "percentiles",
    "samples_needed",
    "sign_flips",
    "student",
    "wilson",
]
