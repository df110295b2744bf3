"""The options of a method as flags of a verb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import rich_click as click

from ..errors import UsageError


def names(group: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completes a name of that group (``"methods"``, ``"tasks"``) in a shell; nothing is imported for it."""

    def complete(context: click.Context, param: click.Parameter, typed: str) -> list[str]:
        from .._util import entry_points

        return sorted(name for name in entry_points.claims(group) if name.startswith(typed))

    return complete


def batch_size(context: click.Context, param: click.Parameter, value: str) -> int | str:
    """What ``--batch-size`` was given: a whole number, or ``auto``."""
    return "auto" if value == "auto" else int(click.INT(value, param, context))


def listed(context: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """The names in what a repeatable flag was given: ``a,b`` is two of them."""
    found = [name.strip() for value in values for name in value.split(",")]
    if values and not all(found):
        raise click.BadParameter("a name is empty; write NAME,NAME", context, param)
    return tuple(found)


class MethodCommand(click.RichCommand):
    """A verb with ``--method``: whatever that names adds its options as flags.

    Attributes
    ----------
    kinds
        For each kind of options: the prefix of its parameters' names, the attribute of the method's class
        that declares them, and the title of their panel in the help.
    """

    kinds: ClassVar[tuple[tuple[str, str, str], ...]] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["method_params"] = self._method_params(args)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *ctx.meta.get("method_params", ())]

    def named(self, args: list[str]) -> list[str]:
        """Methods whose options are flags here, from a raw command line; of several the last one counts."""
        return values_of(args, "-m", "--method")[-1:]

    def _method_params(self, args: list[str]) -> list[click.Parameter]:
        from .. import registry
        from ..options import describe

        for path in values_of(args, "--plugin"):
            registry.register_file(Path(path))
        names = self.named(args)
        found: dict[str, tuple[str, dict[str, Any], click.Parameter]] = {}
        taken = {name for param in self.params for name in param.opts}
        for name in dict.fromkeys(names):
            cls = registry.method(name).cls
            for prefix, attribute, panel in self.kinds:
                for row in describe(getattr(cls, attribute)):
                    flag = f"--{row['name'].replace('_', '-')}"
                    if flag in taken or (flag in found and found[flag][0] == name):
                        raise UsageError(
                            f"method {name}: its option {row['name']!r} is a flag of every {self.name}; rename it"
                        )
                    if flag in found and (row["type"] == "bool") != (found[flag][1]["type"] == "bool"):
                        raise UsageError(
                            f"{flag} is a switch of one of {found[flag][0]} and {name} and takes a value for the "
                            "other: run them one by one"
                        )
                    found.setdefault(flag, (name, row, _option(row, flag, prefix, panel)))
        return [param for _, _, param in found.values()]


def _option(row: dict[str, Any], flag: str, prefix: str, panel: str) -> click.Parameter:
    limits = f" [{row['type']}{', ' + row['range'] if row['range'] else ''}]"
    default = "" if row["default"] is None else f" (default {row['default']})"
    boolean = row["type"] == "bool"
    return click.RichOption(
        [f"{flag}/--no-{flag[2:]}" if boolean else flag, f"{prefix}{row['name']}"],
        default=None,
        help=row["description"] + limits + default,
        panel=panel,
        **({} if boolean else {"metavar": "VALUE"}),
    )


def chosen(flags: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take the options of one kind out of `flags`; those the user gave, by their own names."""
    found = {name: flags.pop(name) for name in list(flags) if name.startswith(prefix)}
    return {name.removeprefix(prefix): value for name, value in found.items() if value is not None}


def values_of(args: list[str], *flags: str) -> list[str]:
    """Values of an option in a raw command line, before it is parsed."""
    found = []
    for i, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name in flags:
            if equals:
                found.append(value)
            elif i + 1 < len(args):
                found.append(args[i + 1])
        elif len(word) > 2 and word[:2] in flags and not word.startswith("--"):
            found.append(word[2:])
    return found
