"""``harness view``: a folder of runs in a browser, refreshed while runs go on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import rich_click as click

from ..errors import UsageError
from ._output import emit, json_flag, quiet_flag, say


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any that is free."
)
@click.option("--baseline", metavar="NAME", help="Run that others are compared with, as for report.")
@click.option("--open", "opened", is_flag=True, help="Open it in the browser of this machine.")
@json_flag("its address")
@quiet_flag
def view(folder: Path, port: int, baseline: str | None, opened: bool, as_json: bool) -> int:
    """Show the runs in FOLDER (default `runs`) as a page on this machine, refreshed while runs go on.

    The page is that of `harness report --format html`; it is served on 127.0.0.1 alone, until Ctrl-C. From another
    machine: ssh -L 8765:127.0.0.1:8765 HOST.
    """
    from ._viewing import HOST, Shelf, server

    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; name a run's folder, or a folder of runs")
    shelf = Shelf(folder, baseline)
    with server(shelf, port) as serving:
        address = f"http://{HOST}:{serving.server_address[1]}/"
        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            if as_json:
                emit({"folder": str(folder), "address": address})
            else:
                say(f"{folder} at {address} until Ctrl-C", copied=True)
            if opened:
                import webbrowser

                webbrowser.open(address)
            serving.serve_forever(poll_interval=0.2)
    return 0
