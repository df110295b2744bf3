"""The contract of a report: finished runs in, tables and figures out. Reports read records, never models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ..options import Options as BaseOptions

if TYPE_CHECKING:
    from ..documents.document import Document
    from .run import LoadedRun


class Report(ABC):
    """Something made from finished runs. Subclass it and name it in an entry point.

    A report says what to show: tables (`harness.documents.tables`) and figures (`harness.documents.figures`).
    How they look on a terminal, in Markdown, LaTeX, CSV, JSON or on a page is not its affair.

    Class attributes
    ----------------
    Options
        A field ``published`` is given ``harness report --published``; others have their defaults there.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions

    def __init__(self, options: BaseOptions) -> None:
        self.options = options

    @abstractmethod
    def build(self, runs: Sequence[LoadedRun]) -> Document:
        """Make the report from the runs' records alone.

        Returns
        -------
        Document
            Empty if the runs hold nothing that it is about: it is then left out.
        """
