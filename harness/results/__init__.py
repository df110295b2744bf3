"""Run folders: written, read, labelled, summarised, merged and recorded."""

from .labels import labelled
from .loading import load_run, load_runs
from .merging import merged
from .run_folder import RunFolder
from .shared_run_folder import SharedRunFolder
from .summary import summarise

__all__ = ["RunFolder", "SharedRunFolder", "labelled", "load_run", "load_runs", "merged", "summarise"]
