"""The table a fit ends with."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

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
            columns = list(report.parameters[0])
            table = Table(box=box.SIMPLE_HEAD, title="Trained parameters, in millions", title_justify="left")
            for name in columns:
                table.add_column(name, justify="left" if name == columns[0] else "right")
            for row in report.parameters:
                table.add_row(*(v if isinstance(v, str) else f"{v / 1e6:,.2f}" for v in row.values()))
            yield lambda _: table
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
