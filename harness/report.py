"""The contract of a report: finished runs in, a table or page out. Reports read records, never models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from .options import Options as BaseOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .records import RunFolder


class Report(ABC):
    """Something made from finished runs. Subclass it and name it in an entry point."""

    Options: ClassVar[type[BaseOptions]] = BaseOptions

    def __init__(self, options: BaseOptions) -> None:
        self.options = options

    @abstractmethod
    def render(self, runs: Sequence[RunFolder]) -> RenderableType:
        """Make the report from the runs' records alone."""
