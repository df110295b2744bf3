"""What tasks have in common whose rows come from one file or table: a run's identity says which data it had."""

from __future__ import annotations

from typing import Any

from harness.contracts import Task


class FileTask(Task):
    """A task whose rows are read by `_files.rows`, which is given `_take_data`."""

    _data: str | None = None

    def _take_data(self, fingerprint: str) -> None:
        self._data = fingerprint

    def facts(self) -> dict[str, Any]:
        """A fingerprint of the file that the rows came from, or the commit of the table: other rows are another run."""
        return {} if self._data is None else {"data": self._data}
