"""Tables and figures as data: what reports make, before any format."""

from .document import Answer, Document, SampleView
from .figures import Axis, HeatMap, Lines, Point, Scatter, Series, Stretch, Strip
from .tables import Cell, Column, Mark, Row, Table

# fmt: off
__all__ = [
    "Answer", "Axis", "Cell", "Column", "Document", "HeatMap", "Lines", "Mark", "Point", "Row", "SampleView",
    "Scatter", "Series", "Stretch", "Strip", "Table",
]
# fmt: on
