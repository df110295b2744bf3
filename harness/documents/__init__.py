"""Tables and figures as data: what reports make, before any format."""

from .browser import BrowsedAnswer, BrowsedSample, Browser
from .document import Answer, Document, SampleView
from .figures import Axis, Difference, Forest, HeatMap, Lines, Point, Scatter, Series, Stretch, Strip
from .tables import Cell, Column, Mark, Row, Table

# fmt: off
__all__ = [
    "Answer", "Axis", "BrowsedAnswer", "BrowsedSample", "Browser", "Cell", "Column", "Difference", "Document",
    "Forest", "HeatMap", "Lines", "Mark", "Point", "Row", "SampleView", "Scatter", "Series", "Stretch", "Strip",
    "Table",
]
# fmt: on
