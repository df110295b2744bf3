"""Tables and figures in the formats of ``harness report``: terminal, Markdown, LaTeX, CSV, JSON, one page."""

from .formats import FORMATS, as_csv, as_html, as_json, as_latex, as_markdown, as_terminal, tables

__all__ = [
    "FORMATS",
    "as_csv",
    "as_html",
    "as_json",
    "as_latex",
    "as_markdown",
    "as_terminal",
    "tables",
]
