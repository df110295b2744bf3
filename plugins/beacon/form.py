"""How intervals are cut and beacons made: the paper's way, and ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from harness import UsageError
from harness.models import adapters

Start = Literal["end", "last"]
"""What a beacon is fed.

``end``: a learned embedding that begins as the end token's, at the position after the last token the beacon
stands for. This is Activation Beacon (arXiv 2401.03462v1).

``last``: the embedding of the last token the beacon stands for plus a learned one that begins at zero, at that
token's own position, seeing exactly what that token saw. This is ours: before any training the beacons of ratio
r are then the raw entries of every r-th token, a strided cache, where the paper's start holds next to nothing.
On SmolLM2-135M-Instruct the loss of 64 tokens after 256 condensed ones is 3.39, 3.56 and 3.66 at ratios 2, 4
and 8 (no memory 4.07, the whole text 3.29), against 6.17 and 4.68 at ratios 2 and 8 from the paper's start with
the first token raw as well.
"""

PAPERS_START: Start = "end"
PAPERS_SINKS = 0
PAPERS_INTERVAL = 1024


@dataclass(frozen=True)
class Form:
    """How intervals are cut and beacons made: what an adapter was trained for, or, without one, the paper's.

    Attributes
    ----------
    interval
        Raw tokens condensed together. Another one than the training's may be asked for.
    start, sinks
        What a beacon is fed, and how many first tokens stay raw. Weights trained for one are no use to another.
    """

    interval: int = PAPERS_INTERVAL
    start: Start = PAPERS_START
    sinks: int = PAPERS_SINKS


def trained_form(folder: Path) -> Form:
    """The form an adapter was trained for. A card of before there was a choice says nothing: the paper's.

    Raises
    ------
    UsageError
        If the card names a start, a number of sinks or an interval that there cannot be.
    """
    card = adapters.read_card(folder)
    start, sinks = card.get("start", PAPERS_START), card.get("sinks", PAPERS_SINKS)
    interval = card.get("interval") or PAPERS_INTERVAL
    if start not in get_args(Start):
        raise UsageError(f"--adapter {folder}: trained with beacons of start {start!r}; update the harness")
    for name, value, least in (("sinks", sinks, 0), ("interval", interval, 2)):
        if not isinstance(value, int) or value < least:
            raise UsageError(f"--adapter {folder}: its card says {name} {value!r}, which is no such number")
    return Form(interval, start, sinks)


def settle(options: Any, folder: Path | None) -> Any:
    """Options whose interval, start and sinks are known: as given, else the adapter's, else the paper's.

    Raises
    ------
    UsageError
        If a start or sinks were given that the adapter was not trained with.
    """
    form = Form() if folder is None else trained_form(folder)
    for name in ("start", "sinks"):
        given, there = getattr(options, name), getattr(form, name)
        if folder is not None and given not in (None, there):
            raise UsageError(
                f"--{name} {given}: the adapter {folder} was trained with {there}; leave --{name} out, "
                "or give --adapter none"
            )
    known = {n: getattr(options, n) for n in ("interval", "start", "sinks")}
    return options.model_copy(update={n: getattr(form, n) if v is None else v for n, v in known.items()})
