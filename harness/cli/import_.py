"""``harness import``: what other tools have written as a run, to be compared and shown like any."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from ._output import emit, json_flag, quiet_flag, say

SOURCES = ("lm-eval", "kvpress", "longbench")
"""As in `harness.exchange`, which would take time to import for a line of help."""


@click.command(name="import", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--from", "source", type=click.Choice(SOURCES), required=True, help="The tool that wrote PATH.")
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run whose ids the samples get, by their references: then the two can be compared.",
)
@click.option("--model", help="What to call the model. [default: as the files do]")
@click.option("--method", help="What to call the method. [default: the tool, or its press]")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of runs."
)
@json_flag("the run's folder")
@quiet_flag
def import_(
    path: Path,
    source: str,
    like: Path | None,
    model: str | None,
    method: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Make a run of what another tool has written at PATH.

    lm-eval: results_*.json, or a folder with one, written with --log_samples. kvpress: a folder of evaluate.py with
    predictions.csv and config.yaml. longbench: the folder of a model as pred.py writes it, <dataset>.jsonl. Scores
    of lm-eval are taken over; predictions of the others are scored here, by the official rules. Compression, memory
    and time were not measured, and tables say so.
    """
    from ..exchange.importing import import_runs

    folder = import_runs(path, source, out=out, like=like, model=model, method=method)
    if as_json:
        emit({"folder": str(folder)})
    else:
        say(f"written to {folder}")
        say(f"next: harness report {folder}")
