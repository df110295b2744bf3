"""`kvpress`: the door to every press of an installed kvpress."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import ClassVar

from harness import Method, UsageError
from harness.errors import unknown_name

from .answering import AnsweringPressMethod
from .asking import AskingPressMethod
from .discovery import ABSTRACT, PACKAGE, REFUSED, installed, version
from .press_method import PressMethod


class KvPress(Method):
    """Any press of an installed kvpress, `kvpress:SnapKVPress`: bytes measured beside the ratio it claims."""

    family: ClassVar[str | None] = "PRESS"

    @classmethod
    def variant(cls, name: str) -> type[Method]:
        """The press of that name as a method."""
        return _method(name)

    @classmethod
    def variants(cls) -> list[str]:
        """Presses of the installed kvpress; none without it. Read from its sources: importing takes seconds."""
        import ast
        from pathlib import Path

        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            return []
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        names = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        return sorted(n for n in names if n.endswith("Press") and n not in (*REFUSED, *ABSTRACT))


@cache
def _method(name: str) -> type[Method]:
    from .options import press_options

    kvpress = installed(name)
    press = getattr(kvpress, name, None)
    if not (isinstance(press, type) and issubclass(press, kvpress.BasePress)) or name in ABSTRACT:
        raise unknown_name("press of kvpress", name, KvPress.variants())
    for base in press.__mro__:
        if base.__name__ in REFUSED:
            raise UsageError(f"kvpress:{name} cannot be run: {REFUSED[base.__name__]}")
    answering = issubclass(press, kvpress.DecodingPress | kvpress.PrefillDecodingPress)
    asking = issubclass(press, kvpress.FinchPress)
    base = AnsweringPressMethod if answering else AskingPressMethod if asking else PressMethod
    doc = next((line.strip() for line in (press.__doc__ or "").splitlines() if line.strip()), name)
    return type(
        name,
        (base,),
        {
            "__doc__": doc,
            "__module__": __name__,
            "Options": press_options(press),
            "press": press,
            "version": f"{base.version}+kvpress{version()}",
        },
    )
