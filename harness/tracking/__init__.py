"""Runs and fits in experiment trackers: each by its own client, behind a queue, so that none can hold a run up."""

from .clients import TRACKERS
from .sending import Sender
from .watching import track_fit, track_run

__all__ = ["TRACKERS", "Sender", "track_fit", "track_run"]
