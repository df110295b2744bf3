"""What the functions return: short to print, a table in a notebook, a figure, and a data frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..comparison.reporting import SHORT
from ..comparison.rows import Comparison
from ..contracts.run import LoadedRun
from ..documents.document import Document
from ..errors import UsageError

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

WIDTH = 100
"""Columns of a printed result."""


@dataclass(frozen=True, repr=False)
class Shown:
    """Something to look at: `documents` as tables and figures.

    Attributes
    ----------
    documents
        Answers, tables, figures.
    title
        Of the page.
    runs
        What it was made from.
    """

    documents: Sequence[Document]
    title: str = ""
    runs: Sequence[LoadedRun] = ()

    def __repr__(self) -> str:
        from rich.console import Console

        from .. import render

        file = StringIO()
        console = Console(file=file, width=WIDTH, no_color=True, force_jupyter=False)
        short = [d for d in self.documents if d.name in SHORT] or self.documents
        console.print(render.as_terminal(short, WIDTH, compact=True))
        return file.getvalue().rstrip()

    def _repr_html_(self) -> str:
        from ..render.fragment import fragment

        return fragment([d for d in self.documents if d.name in SHORT] or self.documents)

    def to_html(self, *, sheet: bool = False) -> str:
        """The page of ``harness report --format html``; as a `sheet` it is set small on paper."""
        from .. import render
        from ..comparison.reporting import frame

        lede, colophon = frame(self.runs)
        return render.as_html(self.documents, self.title, lede if self.runs else (), colophon, sheet=sheet)

    def to_markdown(self) -> str:
        """The same as Markdown."""
        from .. import render

        return render.as_markdown(self.documents, self.title)

    def save(self, path: str | Path, *, force: bool = False, brief: bool = False) -> Path:
        """Write a page, its PDF, or Markdown, as the name ends; returns the path.

        With `brief` it is the answer with a few figures: as a PDF one sheet.

        Raises
        ------
        UsageError
            If the file is there, without `force`; for another ending; for a PDF without a browser.
        """
        from .._util.files import write_whole
        from ..comparison.brief import briefs
        from ..render.pdf import first_that_fits, pdf

        target = Path(path)
        makers: dict[str, Callable[[], str | bytes]] = {
            ".html": self.to_html,
            ".md": self.to_markdown,
            ".pdf": lambda: pdf(self.to_html()),
        }
        if brief:
            forms = (replace(self, documents=each) for each in briefs(self.documents))
            makers[".pdf"] = lambda: first_that_fits(each.to_html(sheet=True) for each in forms)
            makers |= {
                ".html": lambda: next(forms).to_html(sheet=True),
                ".md": lambda: next(forms).to_markdown(),
            }
        if target.suffix not in makers:
            raise UsageError(f"{target}: there is no format of that ending; use one of {', '.join(makers)}")
        if target.exists() and not force:
            raise UsageError(f"{target} is there already; choose another name, or say force=True")
        write_whole(target, makers[target.suffix]())
        return target

    def to_pandas(self) -> pandas.DataFrame:
        """The rows of all tables, unrounded, ``table`` naming each row's."""
        import pandas

        return pandas.DataFrame(
            [
                {"table": table.name, **{c.key: row.cell(c).value for c in table.columns}}
                for document in self.documents
                for table in document.tables
                for row in table.rows
            ]
        )

    def plot(self, name: str | None = None) -> Figure:
        """Draw one of its figures with matplotlib.

        Parameters
        ----------
        name
            Of the figure (``forest``, ``pareto-passkey-kv``); default: the first.

        Raises
        ------
        UsageError
            If there is none of that name.
        """
        from ..errors import unknown_name
        from ..render.matplotlib import draw

        figures = {f.name: f for document in self.documents for f in document.figures}
        if not figures:
            raise UsageError("there is nothing to plot: the runs have no figure in this report")
        if name is not None and name not in figures:
            raise unknown_name("figure", name, figures)
        return draw(figures[name] if name is not None else next(iter(figures.values())))


@dataclass(frozen=True, repr=False)
class Comparisons(Shown):
    """Runs held against a baseline: the answer, the table, the forest.

    Attributes
    ----------
    comparisons
        One for each run, with its rows and caveats.
    not_compared
        Why each of the others could not be.
    """

    comparisons: Sequence[Comparison] = field(default=())
    not_compared: Sequence[str] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """What ``harness compare --json`` prints of it."""
        return {
            "comparisons": [c.to_json() for c in self.comparisons],
            "failures": [],
            "not_compared": list(self.not_compared),
        }

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each run and task: difference, interval, p-values, verdict; scores are 0..1."""
        import pandas

        return pandas.DataFrame(
            [{"run": c.run.label, **row} for c in self.comparisons for row in c.to_json()["rows"]]
        )
