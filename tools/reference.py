"""Build the API reference from the docstrings: HTML in ``build/reference``, by pdoc (the extra ``docs``).

    python tools/reference.py

Exits 1, with a line for each, if a public name has no docstring or pdoc warns.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "build" / "reference"
MODULES = ("harness", "harness.testing", "harness.api", "harness.results.loading", "harness.contracts.fit")
"""What plugins and notebooks import."""


def main() -> int:
    """Build, and say what is wrong."""
    wrong = [f"{name}: no docstring" for name in undocumented()]
    wrong += build(OUT)
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


def build(out: Path) -> list[str]:
    """Write the pages below `out`; pdoc's warnings, a line each."""
    import pdoc

    pdoc.render.configure(docformat="numpy")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", UserWarning)
        pdoc.pdoc(
            *MODULES, *(f"!{name}.__main__" for name in MODULES[:1]), "!harness.cli", output_directory=out
        )
    return [str(each.message) for each in found if issubclass(each.category, UserWarning)]


def undocumented() -> Iterator[str]:
    """Public classes and functions of `MODULES`, and public members of classes, without a docstring."""
    for module in map(importlib.import_module, MODULES):
        own = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
        ]
        for name in getattr(module, "__all__", own):
            value = getattr(module, name)
            if name.startswith("_") or not callable(value):
                continue
            if not inspect.getdoc(value):
                yield f"{module.__name__}.{name}"
            if inspect.isclass(value):
                yield from (f"{module.__name__}.{name}.{member}" for member in _bare(value))


def _bare(cls: type) -> Iterator[str]:
    for name, member in vars(cls).items():
        described = inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod)
        if described and not name.startswith("_") and not inspect.getdoc(getattr(cls, name)):
            yield name


if __name__ == "__main__":
    sys.exit(main())
