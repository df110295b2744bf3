"""The needle grid."""

from .task import NeedleGrid

__all__ = ["NeedleGrid"]
