"""Intervals and paired tests."""

from .bootstrap import confidence_interval, mean, percentiles, wilson
from .paired import SignFlips, difference_interval, holm, mcnemar, sign_flips

__all__ = [
    "SignFlips",
    "confidence_interval",
    "difference_interval",
    "holm",
    "mcnemar",
    "mean",
    "percentiles",
    "sign_flips",
    "wilson",
]
