"""``harness score``: score predictions that were made elsewhere."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from ._output import emit, json_flag, quiet_flag


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--drop-thoughts", is_flag=True, help="Score what follows <think>...</think>; official scorers take all."
)
@json_flag("scores of all lines, and means,")
@quiet_flag
def score(file: Path, drop_thoughts: bool, as_json: bool) -> None:
    """Score the predictions in FILE.

    FILE has one JSON object a line: task (as `harness list tasks` names it; or dataset, a bare variant name),
    prediction, answers (or outputs, where a task's own files call them so), and all_classes for
    classification sets. No model is loaded.

    With --json: {"scores": [0..1 for each line], "tasks": {task: mean x 100},
    "thoughts": lines with a thought}.
    """
    from ..evaluation.score_file import score_file

    result = score_file(file, drop_thoughts=drop_thoughts)
    means = result.means()
    if as_json:
        emit({"scores": result.scores, "tasks": means, "thoughts": result.thoughts})
        return

    from ..console.progress import Display
    from ..documents import Cell, Column, Row, Table
    from ..render.terminal import table

    columns = [
        Column("task", "task", kind="name"),
        Column("n", "n", format=",d"),
        Column("score", "score", format=".2f"),
    ]
    rows = [
        Row({"task": Cell(task), "n": Cell(n), "score": Cell(means[task])})
        for task, n in result.counts().items()
    ]
    Display().show(lambda width: table(Table("scores", "Scores × 100", columns, rows), width, compact=True))
    if result.thoughts:
        rule = (
            "only what follows them was scored" if drop_thoughts else "scored with the answer, as officially"
        )
        hint = "" if drop_thoughts else "; --drop-thoughts scores what follows"
        click.echo(f"note: {result.thoughts} predictions hold a thought (<think>): {rule}{hint}")
