"""Modules of earlier versions that documents and plugins name: importing one gives what took its place.

``from harness.kvcache import KVCache`` works as it did, with a `DeprecationWarning` that says where to look.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "harness.kvcache": ("harness.inference",),
    "harness.lm_eval_model": ("harness.interop",),
    "harness.measure": ("harness.inference",),
    "harness.method": ("harness.contracts",),
    "harness.prompt": ("harness.contracts", "harness.prompts"),
    "harness.recipe": ("harness.contracts",),
    "harness.report": ("harness.contracts",),
    "harness.runs": ("harness.results", "harness.contracts"),
    "harness.task": ("harness.contracts",),
}
"""Old module, and the packages that hold what it held."""


class _Finder:
    """Finds and loads the modules of `MOVED`, after everything that is really there.

    By shape only: the base classes of `importlib.abc` take a tenth of the time that importing `harness` takes.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None  # an ordinary module

    def exec_module(self, module: ModuleType) -> None:
        places = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is now {' and '.join(places)}", DeprecationWarning, stacklevel=2)
        for place in reversed(places):
            found = importlib.import_module(place)
            vars(module).update({name: getattr(found, name) for name in found.__all__})


def install() -> None:
    """Let old names be found; a second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
