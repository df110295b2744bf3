"""What a person sees on a terminal: progress, tables, clean text."""

from .fit_tables import fit_tables
from .progress import Display, FitDisplay, RunDisplay, SynthDisplay
from .quiet import quietly
from .run_tables import summary_table
from .safe_text import visible

__all__ = [
    "Display",
    "FitDisplay",
    "RunDisplay",
    "SynthDisplay",
    "fit_tables",
    "quietly",
    "summary_table",
    "visible",
]
