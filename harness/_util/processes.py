"""Processes that a launcher (`torchrun`, `accelerate launch`) has started together."""

from __future__ import annotations

import os

from ..errors import UsageError

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
MEETING = ("MASTER_ADDR", "MASTER_PORT")


def launched() -> int:
    """How many they are; 1 without a launcher.

    Raises
    ------
    UsageError
        If the environment says that they are several, but not all that they need to find each other: one that trains
        would wait, or take itself for all of them.
    """
    # -1 is as if unset
    said = {name: os.environ[name] for name in NUMBERS if os.environ.get(name, "-1") != "-1"}
    if wrong := next((name for name, value in said.items() if not value.isdecimal()), None):
        raise UsageError(f"{wrong} is {said[wrong]!r}, no number: start the command by torchrun, or unset it")
    count = max(1, int(said.get("WORLD_SIZE", "1")))
    beyond = int(said.get("RANK", "0")) >= count
    if count > 1 or beyond or "LOCAL_RANK" in said:
        known = {**said, **{name: os.environ.get(name, "") for name in MEETING}}
        if lacking := [name for name in (*NUMBERS, *MEETING) if not known.get(name)]:
            raise UsageError(
                f"by {' and '.join(said)} a launcher started this process, but {' and '.join(lacking)} "
                f"{'is' if len(lacking) == 1 else 'are'} not set: start the command by torchrun, or unset them"
            )
        if beyond:
            raise UsageError(f"RANK is {said['RANK']}, but WORLD_SIZE {count}: they are counted from 0")
    return count
