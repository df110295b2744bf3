"""Results that travel: runs as files and data sets of other tools, and other tools' files as runs."""

from .exporting import FORMATS, export
from .importing import SOURCES, import_runs

__all__ = ["FORMATS", "SOURCES", "export", "import_runs"]
