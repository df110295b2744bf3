"""Where code would wait for a GPU, counted on a CPU: values asked for, and shapes that depend on values."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

ASKING = {
    "item",
    "tolist",
    "numpy",
    "cpu",
    "nonzero",
    "masked_select",
    "equal",
    "unique",
    "repeat_interleave",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "__contains__",
}
MAKING = {"tensor", "as_tensor"}


class Waits(TorchFunctionMode):
    """Counts, while it lasts, calls that a GPU could not answer at once, by what is called and who calls it.

    A boolean index asks how many are true; a list made a tensor on a device is copied before anything goes on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        by_value = name in ("__getitem__", "__setitem__") and _boolean(args[1])
        if name in ASKING or by_value or (name in MAKING and (kwargs or {}).get("device") is not None):
            self.found[f"{name} in {_caller()}"] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.found.values())

    def within(self, folder: str) -> int:
        """Those that files of a package call."""
        return sum(n for what, n in self.found.items() if folder in what)


def _boolean(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)


def _caller() -> str:
    """The file that calls torch."""
    frame: Any = sys._getframe(2)
    while frame is not None and "/torch/" in frame.f_code.co_filename:
        frame = frame.f_back
    return "?" if frame is None else str(frame.f_code.co_filename)
