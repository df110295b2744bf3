"""The presses of kvpress as methods."""

from .method import KvPress

__all__ = ["KvPress"]
