"""``harness report``: finished runs as tables and figures, in any format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from .._util.files import write_whole
from ..console.quiet import QUIET
from ..errors import UsageError
from ._output import json_flag, quiet_flag, say, stdout

if TYPE_CHECKING:
    from ..contracts.run import LoadedRun
    from ..documents.document import Document
    from ..documents.tables import Table

DEFAULT = ("headline", "scores", "cost", "comparison")
"""As in `harness.comparison.reporting`, which would take time to import for a line of help."""
FORMATS = ("terminal", "markdown", "latex", "csv", "json", "html", "pdf")

MORE = "every column and data set, and how the numbers were made: --all; as a page: --out report.html"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", metavar="[RUN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    help=f"Report, repeatable (default {', '.join(DEFAULT)}; html and --all: every one installed).",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="On a terminal: every report, every column, and how the numbers were made.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Default: as the name of --out ends, else terminal.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write; with csv and several tables a folder."
)
@click.option(
    "--baseline",
    metavar="NAME",
    help="Label, method or hash of the run that others are compared with (default: the first; of a folder, plain).",
)
@click.option("--published", metavar="NAME", help="Published table to hold the scores against.")
@click.option(
    "--brief", is_flag=True, help="The answer with a few figures: as .pdf on one sheet, else .html or .md."
)
@click.option("--record", metavar="NAME", help="Record the run as a baseline of that name.")
@click.option("--title", help="Title of the page.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@json_flag("the reports")
@quiet_flag
def report(
    paths: tuple[Path, ...],
    kinds: tuple[str, ...],
    everything: bool,
    form: str | None,
    out: Path | None,
    baseline: str | None,
    published: str | None,
    record: str | None,
    brief: bool,
    title: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Show finished runs: scores, cost, comparison, lengths, grids, failures and samples.

    RUN is a run's folder or a folder of runs (default `runs`). Every run is compared with the first; those of a
    folder go by method and options, and the first is `plain` where there is one.
    """
    from ..comparison import reporting
    from ..results.loading import load_runs
    from ..results.merging import merged

    if as_json and (out is not None or form not in (None, "json")):
        raise UsageError(
            "--json prints JSON; for a file say --out NAME.json, and leave --json and --format out"
        )
    chosen = "json" if as_json else form or _by_name(out)
    if brief and chosen not in ("html", "pdf", "markdown"):
        raise UsageError("--brief is a sheet to hand on: say --out NAME.pdf, NAME.html or NAME.md")
    whole = everything or chosen in ("html", "pdf")
    usual = reporting.SHORT if chosen == "terminal" else reporting.DEFAULT
    names = kinds or (
        reporting.installed(reporting.EVERYTHING, others=True)
        if whole and not brief
        else reporting.installed(usual)
    )
    makers = reporting.makers(names, published)
    loaded = load_runs(list(paths) or [Path("runs")])
    if record is not None:
        _record(loaded, record)
    runs = reporting.first(merged(loaded), baseline)
    documents = [document for maker in makers if not (document := maker.build(runs)).empty]
    compact = not everything and out is None
    if brief:
        _write_brief(documents, runs, chosen, out, title or reporting.title(runs), force)
        return
    _write(documents, runs, chosen, out, title or reporting.title(runs), force, compact)


def _by_name(out: Path | None) -> str:
    """The format that a file's name asks for."""
    endings = {".html": "html", ".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}
    endings[".pdf"] = "pdf"
    if out is None or out.suffix in ("", ".txt"):
        return "terminal"
    if out.suffix not in endings:
        known = ", ".join((*endings, ".txt"))
        raise UsageError(
            f"--out {out}: there is no format of that ending; use one of {known}, or say --format"
        )
    return endings[out.suffix]


def _record(runs: Sequence[LoadedRun], name: str) -> None:
    """Record the runs as a baseline, and say where."""
    from ..results.recorded_baselines import record

    path = record(name, runs)
    if not QUIET.get():
        say(f"recorded in {path}", err=True)


def _write(
    documents: Sequence[Document],
    runs: Sequence[LoadedRun],
    form: str,
    out: Path | None,
    title: str,
    force: bool,
    compact: bool,
) -> None:
    """Print the reports, or write them to `out`."""
    from .. import render
    from ..comparison import reporting

    if form == "terminal" and out is None:
        from rich.text import Text

        from ..console.progress import Display

        display = Display()
        display.show(lambda width: render.as_terminal(documents, width, compact=compact))
        if compact:
            display.show(lambda width: Text(MORE, style="dim"))
        return
    if form == "csv":
        _write_csv(render.tables(documents), out, force)
        return
    if form == "pdf":
        _write_pdf(documents, runs, out, title, force)
        return
    text = {
        "terminal": lambda: _as_text(documents),
        "markdown": lambda: render.as_markdown(documents, title),
        "latex": lambda: render.as_latex(documents),
        "json": lambda: render.as_json(documents, title),
        "html": lambda: render.as_html(documents, title, *reporting.frame(runs)),
    }[form]()
    if out is None:
        click.echo(text, nl=False, file=stdout())
        return
    _save(out, text, force)
    say(f"written to {out}")


def _write_pdf(
    documents: Sequence[Document], runs: Sequence[LoadedRun], out: Path | None, title: str, force: bool
) -> None:
    from .. import render
    from ..comparison import reporting
    from ..render.pdf import browser, pdf

    if out is None:
        raise UsageError("a PDF is written to a file: say --out NAME.pdf")
    browser()  # before any work
    _check_free(out, force)
    content = pdf(render.as_html(documents, title, *reporting.frame(runs)))
    _save(out, content, force)
    say(f"written to {out}")


def _write_brief(
    documents: Sequence[Document],
    runs: Sequence[LoadedRun],
    form: str,
    out: Path | None,
    title: str,
    force: bool,
) -> None:
    """The short form: what fits on a sheet of paper, or the longest of them for a screen."""
    from .. import render
    from ..comparison import reporting
    from ..comparison.brief import briefs
    from ..render.pdf import browser, first_that_fits

    shorter = briefs(documents)
    if form != "pdf":
        first = next(shorter)
        made = (
            render.as_html(first, title, *reporting.frame(runs), sheet=True)
            if form == "html"
            else render.as_markdown(first, title)
        )
        if out is None:
            click.echo(made, nl=False, file=stdout())
            return
        _save(out, made, force)
    else:
        if out is None:
            raise UsageError("a PDF is written to a file: say --out NAME.pdf")
        browser()  # before any work
        _check_free(out, force)
        sheets = (render.as_html(each, title, *reporting.frame(runs), sheet=True) for each in shorter)
        _save(out, first_that_fits(sheets), force)
    say(f"written to {out}")


def _as_text(documents: Sequence[Document]) -> str:
    from io import StringIO

    from rich.console import Console

    from .. import render

    file = StringIO()
    Console(file=file, width=180).print(render.as_terminal(documents, 180))
    return file.getvalue()


def _write_csv(tables: Sequence[Table], out: Path | None, force: bool) -> None:
    """One table to standard output or a file; several into a folder, a file each."""
    from .. import render

    if len(tables) == 1 and (out is None or out.suffix):
        text = render.as_csv(tables[0])
        if out is None:
            click.echo(text, nl=False)
            return
        _save(out, text, force)
    elif out is None or out.suffix:
        names = ", ".join(table.name for table in tables) or "none"
        raise UsageError(
            f"csv holds one table and there are {len(tables)} ({names}); choose one --kind, or give --out FOLDER"
        )
    else:
        for table in tables:
            _save(out / f"{table.name}.csv", render.as_csv(table), force)
    say(f"written to {out}")


def _check_free(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise UsageError(f"{path} is there already; choose another --out, or say --force")


def _save(path: Path, text: str | bytes, force: bool) -> None:
    """Write a file, whole or not at all. Raises UsageError for one that is there, or that cannot be written."""
    _check_free(path, force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
