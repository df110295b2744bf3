"""The lines under a run's table: where its records are, and what to type next."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from .. import registry
from ..console.failures import reasons
from ..errors import UsageError
from ..evaluation.launched import LAUNCHERS, LEADERS, command
from ..options import describe

if TYPE_CHECKING:
    from ..evaluation.plan import RunPlan
    from ..evaluation.runner import RunResult


def closing_lines(result: RunResult, plan: RunPlan, args: Sequence[str]) -> RenderableType:
    """Where the run is, and what to type next."""
    typed, begun = ["harness", *args], _begun(plan)
    if result.failed:
        following = f"{shlex.join(begun + typed[1:])}    # runs the {result.failed} failed samples again"
    else:
        swapped = _swap(typed, describe(type(plan.method.options)), _other(plan.settings.method))
        following = f"{shlex.join(begun + swapped[1:])}    # the same samples under another method"
    state = f"{result.ran} samples run" if result.ran else "nothing to do: this run is finished"
    why = "".join(f"{line}\n" for line in reasons(result.folder.records())) if result.failed else ""
    return Text.assemble(
        (why, "red"), f"{state}; records in ", (str(result.folder.path), "bold"), f"\nnext: {following}"
    )


def _begun(plan: RunPlan) -> list[str]:
    """The words with which the command began."""
    if plan.settings.engine not in LAUNCHERS or not LEADERS:
        return ["harness"]
    here = LEADERS[-1].place
    return command(plan.settings.engine, here.local_world or here.world)


def _other(method: str) -> str:
    """Another method to compare with: one without options if there is one, for that is a baseline."""
    others = [name for name in registry.method_names() if name != method]
    for name in others:
        with contextlib.suppress(UsageError):  # a plugin that cannot be imported is no suggestion
            if not registry.method(name).cls.Options.model_fields:
                return name
    return others[0] if others else method


def _swap(words: Sequence[str], options: Sequence[dict[str, Any]], method: str) -> list[str]:
    """The same command line with another method, without what belongs to the first one alone."""
    flags = {f"--{o['name'].replace('_', '-')}": o["type"] == "bool" for o in options}
    switches = {flag for flag, boolean in flags.items() if boolean}
    switches |= {f"--no-{flag[2:]}" for flag in switches}
    valued = {*flags, "-m", "--method", "--adapter", "--plugin"} - switches
    kept: list[str] = []
    skip = False
    for word in words:
        flag = word.partition("=")[0]
        if skip:
            skip = False
        elif flag in valued:
            skip = "=" not in word
        elif flag in switches or (word.startswith("-m") and word[1] != "-"):
            continue
        else:
            kept.append(word)
    return [*kept[:2], "--method", method, *kept[2:]]
