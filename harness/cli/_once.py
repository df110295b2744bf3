"""An option that takes one value is given once: of two the last would count, and nobody would be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import rich_click as click

from ..errors import UsageError

_HEEDED = "harness_given_once"


def heed(command: click.Command) -> click.Command:
    """Let a command, or those of a group, refuse an option that is given twice. Returns the command."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            heed(each)
    if getattr(command, _HEEDED, False):
        return command
    make = command.make_parser

    def made(context: click.Context) -> Any:
        parser = make(context)
        parse = parser.parse_args

        def parsed(args: list[str]) -> Any:
            found = parse(args)
            _refuse(param for param in found[2] if isinstance(param, click.Option))
            return found

        setattr(parser, "parse_args", parsed)  # noqa: B010
        return parser

    setattr(command, "make_parser", made)  # noqa: B010  (no hook of click's sees an option each time it is given)
    setattr(command, _HEEDED, True)
    return command


def _refuse(given: Iterable[click.Option]) -> None:
    """Raise UsageError for an option that is there twice, unless it may be, or is a switch that says the same again."""
    seen: set[str] = set()
    for option in given:
        name = str(option.name)
        same = option.is_flag and not option.secondary_opts
        if name in seen and not (option.multiple or option.count or same):
            raise UsageError(f"{option.opts[-1]} is given twice; give it once")
        seen.add(name)


def check_new(found: Mapping[str, Any], name: str, flag: str) -> None:
    """Raise UsageError if `name` of ``flag NAME=VALUE`` is in `found` already."""
    if name in found:
        raise UsageError(f"{flag} {name} is given twice; give it once")
