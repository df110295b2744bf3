"""`two_pass`: relevance of each interval first, then a ratio for each."""

from .method import TwoPass

__all__ = ["TwoPass"]
