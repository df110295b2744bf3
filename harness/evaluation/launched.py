"""Processes that `torchrun` or `accelerate launch` started together: which of them this one is.

Rank 0 plans, keeps the run folder and says what to run (`harness.evaluation.launched_leader`), the others are workers
(`harness.evaluation.launched_worker`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

LAUNCHERS = {
    "torchrun": ("torchrun", "--nproc-per-node"),
    "accelerate": ("accelerate", "launch", "--num_processes"),
}
"""Engines that are a launcher, and how each is typed: they set the same variables, so both names mean the same."""

LEADERS: list[Any] = []
"""The `launched_leader.Leader` of this process, while it is rank 0 of others."""

PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Place:
    """This process among those that were started together.

    Attributes
    ----------
    rank, world
        Its number, and how many there are.
    local_rank, local_world
        The same among those of this machine; None where the launcher does not say.
    """

    rank: int
    world: int
    local_rank: int | None
    local_world: int | None


def place() -> Place | None:
    """Where a launcher put this process; None: none started it, whatever else the variables say."""
    said = {name: os.environ.get(name, "") for name in PLACE}
    rank, world, local_rank, local_world = (int(v) if v.isdecimal() else None for v in said.values())
    if rank is None or world is None or rank >= world:
        return None
    return Place(rank, world, local_rank, local_world)


def hide_place() -> None:
    """Take the launcher's variables away: libraries that see them wait for processes that do something else."""
    for name in PLACE:
        os.environ.pop(name, None)


def command(engine: str, processes: int) -> list[str]:
    """How the harness is started by a launcher, with so many processes on a machine."""
    return [*LAUNCHERS[engine], str(processes), "-m", "harness"]


def check(engine: str) -> None:
    """Refuse an engine that is a launcher where none started this command. Raises UsageError."""
    if LEADERS:
        return
    example = f"{' '.join(command(engine, 8))} run ... --engine {engine}"
    if place() is None:
        raise UsageError(
            f"--engine {engine}: no launcher started this process (RANK and WORLD_SIZE do not say so): {example}"
        )
    raise UsageError(f"--engine {engine} belongs to the command line: {example}")
