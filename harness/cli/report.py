"""``harness report``: finished runs as tables and figures, in any format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from .._util.files import write_whole
from .._version import __version__
from ..console.quiet import QUIET
from ..errors import UsageError, unknown_name
from ._output import json_flag, quiet_flag, say, stdout

if TYPE_CHECKING:
    from ..contracts.report import Report
    from ..contracts.run import LoadedRun
    from ..documents.document import Document
    from ..documents.tables import Table

DEFAULT = ("headline", "scores", "cost", "comparison")
SHORT = ("headline", "scores", "cost")
"""What a terminal shows: the headline has what the comparison would say again."""
EVERYTHING = ("headline", "comparison", "cost", "scores", "lengths", "grid", "failures", "samples")
"""What the page holds unless ``--kind`` says otherwise, in its order; then come those of other packages."""
NO_DEFAULT = ("summary", "suite")
"""Reports that only ``--kind`` asks for: they say again what others say, or are of something else than runs."""
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
    title: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Show finished runs: scores, cost, comparison, lengths, grids, failures and samples.

    RUN is a run's folder or a folder of runs (default `runs`). Every run is compared with the first; those of a
    folder go by method and options, and the first is `plain` where there is one.
    """
    from ..results.loading import load_runs
    from ..results.merging import merged

    if as_json and (out is not None or form not in (None, "json")):
        raise UsageError(
            "--json prints JSON; for a file say --out NAME.json, and leave --json and --format out"
        )
    chosen = "json" if as_json else form or _by_name(out)
    whole = everything or chosen in ("html", "pdf")
    names = kinds or (
        _installed(EVERYTHING, others=True)
        if whole
        else _installed(SHORT if chosen == "terminal" else DEFAULT)
    )
    makers = _reports(names, published)
    loaded = load_runs(list(paths) or [Path("runs")])
    if record is not None:
        _record(loaded, record)
    runs = _first(merged(loaded), baseline)
    documents = [document for maker in makers if not (document := maker.build(runs)).empty]
    compact = not everything and out is None
    _write(documents, runs, chosen, out, title or _title(runs), force, compact)


def _installed(names: Sequence[str], *, others: bool = False) -> list[str]:
    """Those of our reports that are installed; with `others` all else that is."""
    from .._util import entry_points

    known = entry_points.claims("reports")
    rest = sorted(known.keys() - {*names, *DEFAULT, *EVERYTHING, *NO_DEFAULT}) if others else []
    return [name for name in names if name in known] + rest


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


def _first(runs: list[LoadedRun], baseline: str | None) -> list[LoadedRun]:
    """The runs with the one that is asked for at their head. Raises UsageError if there is no such one, or several."""
    if baseline is None:
        return runs
    for fits in (
        [r for r in runs if r.label == baseline],
        [r for r in runs if r.hash.startswith(baseline)],
        [r for r in runs if r.method == baseline],
    ):
        if len(fits) == 1:
            return [fits[0], *(r for r in runs if r is not fits[0])]
        if fits:
            choices = ", ".join(f"{r.hash} ({r.label})" for r in fits)
            raise UsageError(f"--baseline {baseline} fits {len(fits)} runs; name one: {choices}")
    raise unknown_name("run to compare with (--baseline)", baseline, [r.label for r in runs])


def _reports(names: Sequence[str], published: str | None) -> list[Report]:
    """The reports asked for, their options checked."""
    from .. import registry

    found = []
    taken = False
    for name in dict.fromkeys(names):
        cls = registry.report(name).cls
        takes = "published" in cls.Options.model_fields
        taken |= takes
        given = {"published": published} if takes and published else {}
        found.append(cls(cls.Options.parse(given, f"report {name}")))
    if published and not taken:
        raise UsageError(f"--published is for the scores; add --kind scores to {', '.join(names)}")
    return found


def _record(runs: Sequence[LoadedRun], name: str) -> None:
    """Record the runs as a baseline, and say where."""
    from ..results.recorded_baselines import record

    path = record(name, runs)
    if not QUIET.get():
        say(f"recorded in {path}", err=True)


def _title(runs: Sequence[LoadedRun]) -> str:
    """Methods and models, or how many there are."""
    methods = list(dict.fromkeys(run.method for run in runs))
    models = list(dict.fromkeys(run.model for run in runs))
    shown = [
        ", ".join(each) if len(each) <= 4 else f"{len(each)} {what}"
        for each, what in ((methods, "methods"), (models, "models"))
    ]
    return " on ".join(shown)


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
        "html": lambda: render.as_html(documents, title, *_frame(runs)),
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
    from ..render.pdf import browser, pdf

    if out is None:
        raise UsageError("a PDF is written to a file: say --out NAME.pdf")
    browser()  # before any work
    _check_free(out, force)
    content = pdf(render.as_html(documents, title, *_frame(runs)))
    _save(out, content, force)
    say(f"written to {out}")


def _frame(runs: Sequence[LoadedRun]) -> tuple[list[str], str]:
    """What stands above and below a page: how much was measured, and by what."""
    ok, asked = sum(run.n_ok for run in runs), sum(run.planned for run in runs)
    counted = f"{ok:,} of {asked:,} samples finished" if asked >= ok else f"{ok:,} samples finished"
    tasks = dict.fromkeys(task.name for run in runs for task in run.tasks)
    words = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((len(runs), "run"), (len(tasks), "task"))]
    lede = [f"{' over '.join(words)}; {counted}."]
    if len(runs) > 1:
        lede.append(f"Every comparison is with the first run, {runs[0].label}, on the samples both finished.")
    return (
        lede,
        f"Made by harness report (long-context-harness {__version__}) from the records of the runs alone.",
    )


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
