"""HELMET's files: each found in ``--data-dir``, read once, checked and noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.contracts import TaskEnvironment
from harness.errors import Unavailable, UsageError

from .. import _files


@dataclass
class Reader:
    """The files of a run: each read once, and noted by `told` with its fingerprint."""

    env: TaskEnvironment
    name: str
    told: Callable[[str, str], None]

    def rows(
        self, *names: str, fields: Sequence[str] = (), passages: Sequence[str] = (), of: str = "ctxs"
    ) -> list[dict[str, Any]]:
        """The rows of the first of some files that is in ``--data-dir``; each has `fields`.

        With `passages` the field `of` is a list of objects that have those.
        """
        folder = self.env.data_dir
        if folder is None:
            raise Unavailable(
                f"{self.name}: give --data-dir the folder that HELMET's data.tar.gz was unpacked to "
                f"('harness data fetch helmet' says where it lies); it has {names[0]}"
            )
        places = [folder / part / name for name in names for part in ("data", "")]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise Unavailable(f"{self.name}: no {' or '.join(names)} in --data-dir {folder}")
        found = []
        for row, place in _files.read(path, lambda fingerprint: self.told(path.name, fingerprint)):
            if missing := [each for each in fields if each not in row]:
                raise UsageError(f"{place}: field {missing[0]!r} is missing")
            if passages and not _has(row[of], passages):
                raise UsageError(
                    f"{place}: field {of!r} must be a list of objects with {', '.join(passages)}"
                )
            found.append({**row, "_place": place})
        if not found:
            raise UsageError(f"{path}: no rows in it")
        return found


def _has(found: Any, names: Sequence[str]) -> bool:
    return isinstance(found, list) and all(
        isinstance(each, dict) and set(names) <= each.keys() for each in found
    )
