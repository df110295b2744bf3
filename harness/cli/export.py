"""``harness export``: runs as files of other tools, and as a data set of the Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from ..errors import UsageError
from ._output import emit, json_flag, quiet_flag, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..contracts.run import LoadedRun

FORMATS = ("parquet", "xlsx", "dataset", "lm-eval", "inspect", "model-card")
"""As in `harness.exchange`, which would take time to import for a line of help."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", metavar="[RUN]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File or folder to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Default: as the name of --out ends (.parquet, .xlsx).",
)
@click.option(
    "--adapter", type=click.Path(path_type=Path), help="Of model-card: the adapter whose runs count."
)
@click.option("--push", metavar="USER/NAME", help="Send the tables and a card to this data set of the Hub.")
@click.option("--public", is_flag=True, help="Of --push: everybody may see it. [default: private]")
@click.option(
    "--yes", is_flag=True, help="Of --push: send without asking; what is sent is shown all the same."
)
@click.option("--force", is_flag=True, help="Write over what is there.")
@json_flag("what was written")
@quiet_flag
def export(
    paths: tuple[Path, ...],
    out: Path | None,
    form: str | None,
    adapter: Path | None,
    push: str | None,
    public: bool,
    yes: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Write runs in a format of another tool, or send them to the Hub.

    RUN is a run's folder or a folder of runs (default `runs`). parquet and xlsx hold samples, tasks and runs as
    tables; lm-eval and inspect write what those tools read; dataset is a folder as --push sends it, with a card;
    model-card is the head of an adapter's README.md with its scores as model-index. Prompts and contexts are in none.
    """
    from ..exchange.exporting import export as write
    from ..results.loading import load_runs

    if push is None and (public or yes):
        raise UsageError("--public and --yes are for --push USER/NAME")
    if push is None and out is None:
        raise UsageError("say where to: --out FILE, or --push USER/NAME")
    runs = load_runs(list(paths) or [Path("runs")])
    if push is not None:
        if out is not None or form not in (None, "dataset"):
            raise UsageError("--push sends a data set: leave --out and --format out")
        return _push(runs, push, public, yes, as_json)
    made = write(runs, out or Path(), form, adapter=adapter, force=force)
    if as_json:
        emit({"files": [str(path) for path in made.files], "notes": list(made.notes)})
        return 0
    for note in made.notes:
        say(f"note: {note}", err=True)
    for path in made.files:
        say(f"written to {path}")
    return 0


def _push(runs: Sequence[LoadedRun], repo: str, public: bool, yes: bool, as_json: bool) -> int:
    """Show what would be sent, ask, and send it."""
    from ..exchange import hub
    from ..exchange.exporting import export as write

    hub.check_name(repo)
    with tempfile.TemporaryDirectory() as folder:
        write(runs, folder, "dataset")
        plan = hub.Plan(repo, Path(folder), private=not public)
        for line in plan.told():
            say(line, err=True)
        if not yes and not _confirmed():
            say("nothing was sent; --yes sends it", err=True)
            return 0
        url = hub.push(plan)
    if as_json:
        emit({"url": url, "private": not public, "files": [name for name, _ in plan.files]})
    else:
        say(f"sent to {url}")
    return 0


def _confirmed() -> bool:
    """Whether whoever sits there says yes; where nobody does, no."""
    import sys

    return sys.stdin.isatty() and click.confirm("send it?", err=True)
