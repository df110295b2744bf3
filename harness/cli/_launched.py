"""The part that a process has in a command which a launcher started several times: rank 0 carries it out."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import rich_click as click

from ..errors import UsageError
from ._suites import typed

if TYPE_CHECKING:
    from ..evaluation.launched import Place

P = ParamSpec("P")


def shared_out(
    function: Callable[Concatenate[click.RichContext, P], int],
) -> Callable[Concatenate[click.RichContext, P], int]:
    """Let a verb of runs be carried out by rank 0; the other processes are its workers and print nothing."""

    @functools.wraps(function)
    def carried_out(context: click.RichContext, /, *args: P.args, **kwargs: P.kwargs) -> int:
        from ..evaluation.launched import place

        here = place()
        if here is None:  # nothing started it with others; an engine that needs that says so
            return function(context, *args, **kwargs)
        with _part(here, _asked(context)):
            return function(context, *args, **kwargs)

    return carried_out


def _asked(context: click.Context) -> Mapping[str, Any]:
    """What the command line, or else its file, says of engines."""
    from .._util.yaml import read_yaml

    found: dict[str, Any] = {}
    file = context.params.get("file")
    if isinstance(file, Path):
        content = read_yaml(file)
        for said in (content, content.get("settings")) if isinstance(content, Mapping) else ():
            found |= {str(name): value for name, value in said.items()} if isinstance(said, Mapping) else {}
    return {**found, **typed(context, {n: context.params.get(n) for n in ("engine", "join", "device")})}


@contextmanager
def _part(here: Place, asked: Mapping[str, Any]) -> Iterator[None]:
    """Rank 0's part is the block, or with ``--join`` everybody's. A worker does not get there, and does not come back.

    Raises
    ------
    UsageError
        If each process would carry out the whole.
    """
    from ..evaluation.launched import LAUNCHERS, hide_place
    from ..evaluation.launched_leader import leading
    from ..evaluation.launched_worker import own_gpu, serve

    engine = asked.get("engine", "local")
    if engine not in LAUNCHERS:
        if here.world > 1 and not asked.get("join"):
            if here.rank:
                sys.exit(0)  # rank 0 says it, once
            raise UsageError(
                f"{here.world} processes were started together, and each would run everything: add --engine torchrun, "
                "or --join"
            )
        if here.world > 1 and asked.get("device", "auto") in ("auto", "cuda"):
            own_gpu(here.local_rank)
        yield
        return
    if here.rank:
        serve(here)
    hide_place()
    with leading(here):
        yield
