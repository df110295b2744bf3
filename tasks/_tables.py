"""Rows of published files of any kind: JSON lines, Parquet, CSV; each with its place for messages."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.errors import Unavailable, UsageError

from ._files import read
from ._rows import file_fingerprint

FIELD = 2**31 - 1
"""Characters that a field of a CSV file may have: a prompt may be a book."""
BATCH = 16
"""Rows of a Parquet file in memory at a time."""

Rows = Iterator[tuple[dict[str, Any], str]]


def table_rows(path: Path, told: Callable[[str], None] | None = None) -> Rows:
    """The rows of a file, each with its place; before the first `told` is given a fingerprint of the file.

    Raises
    ------
    UsageError
        If the file cannot be read, or a row is none.
    """
    if path.suffix not in (".parquet", ".csv"):
        yield from read(path, told)
        return
    if told is not None:
        told(file_fingerprint(path))
    yield from (_parquet if path.suffix == ".parquet" else _csv)(path)


def found(task: str, folder: Path, names: Sequence[Sequence[str]]) -> list[Path]:
    """The files of the first set of names that are all in a folder.

    Raises
    ------
    Unavailable
        If no set is there.
    """
    for each in names:
        paths = [folder / name for name in each]
        if all(path.is_file() for path in paths):
            return paths
    wanted = " or ".join(" and ".join(each) for each in names)
    raise Unavailable(f"{task}: no {wanted} in --data-dir {folder}")


def _parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield row, f"{path}, row {number}"
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged or no Parquet file ({error}); fetch it again") from None


def _csv(path: Path) -> Rows:
    csv.field_size_limit(FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            while True:
                line = lines.line_num + 1
                row = next(lines, None)
                if row is None:
                    return
                if None in row or None in row.values():
                    raise UsageError(
                        f"{path}, line {line}: it has not as many fields as the head of the file"
                    )
                yield row, f"{path}, line {line}"
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no CSV file in UTF-8 ({error})") from None
