"""``harness new``: a package of the user's own."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from ._output import emit, json_flag, quiet_flag, say
from ._scaffold import KINDS


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="here",
    help="Where its folder goes.",
)
@json_flag("the files written")
@quiet_flag
def new(kind: str, name: str, out: Path, as_json: bool) -> None:
    """Write a small package with a method, task, recipe or report of your own: it installs and runs at once.

    Nothing is written over.
    """
    from . import _scaffold

    files = _scaffold.write(kind, name, out)
    called = _scaffold.names(kind, name)
    folder = files[0].parent
    if as_json:
        emit({"name": called.name, "files": [str(path) for path in files]})
        return
    for path in files:
        say(f"wrote {path}")
    tries = {
        "method": f"harness check {called.name}\n  harness run --method {called.name} --limit 3",
        "task": f"harness check --task {called.name}\n  harness run --method plain --task {called.name} --limit 3",
        "recipe": f"harness synth --recipe {called.name} --count 4 --out synth/{called.name}",
        "report": f"harness report runs --kind {called.name}",
    }[kind]
    say(
        f"next:\n  pip install -e {folder}\n  {tries}\nthen edit {folder / (called.module + '.py')}",
        copied=True,
    )
