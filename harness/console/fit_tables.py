"""The table a fit ends with."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from ..documents import Cell, Column, Row, Table
from ..render import terminal

if TYPE_CHECKING:
    from ..training.run import FitResult


def fit_tables(result: FitResult) -> Iterator[Callable[[int], RenderableType]]:
    """What a fit comes to, each part made for a width: steps and loss, what was trained, what to do next."""
    card, folder = result.card, result.folder
    if result.report is None:
        yield lambda _: Text(f"{folder} holds this very fit, finished; nothing was done")

    else:
        report = result.report
        if report.loss is not None:
            yield lambda _: Text(
                f"{report.steps} steps, loss {report.loss:.3f} nats per token over the last tenth of them"
                + (f" ({card['loss_of']})" if "loss_of" in card else "")
            )
        if report.parameters:
            table = _trained(report.parameters)
            yield lambda width: terminal.table(table, width, compact=True)
    request = card.get("request", {})
    words = ["harness", "run", "--method", str(request.get("method")), "--adapter", str(folder)]
    if request.get("model") not in (None, "smollm2"):
        words += ["--model", str(request["model"])]
    for name, value in request.get("given_options", {}).items():
        flag = name.replace("_", "-")
        words += (
            [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
        )
    yield lambda _: Text(f"next: {shlex.join(words)}")


def _trained(parameters: Sequence[Mapping[str, str | int]]) -> Table:
    """How many parameters of each kind were trained."""
    first, *others = parameters[0]
    columns = [Column(first, first, kind="name"), *(Column(name, name, format=",.2f") for name in others)]
    rows = [
        Row({name: Cell(v if isinstance(v, str) else v / 1e6) for name, v in row.items()})
        for row in parameters
    ]
    return Table("parameters", "Trained parameters, in millions", columns, rows)
