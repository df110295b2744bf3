"""The lines of `samples.jsonl`: written with a checksum, and read only if it agrees."""

from __future__ import annotations

import gc
import json
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..contracts.record import Key, SampleRecord
from ..errors import UsageError

SUM = "crc32"
"""The field of a line that says whether the line is as it was written."""
NAMED = "lines_name_run"
"""Of `run.json`: whether the checksums of all lines cover the run's hash. Versions before wrote runs without it."""
_KINDS = {"prediction": str, **dict.fromkeys(("scores", "metadata", "measured", "truncation", "cost"), dict)}
_FINISHED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("prompt_hash", "references", "prompt_tokens", "stop_reason", "metadata", "scores"), ()),
    "truncation": ("truncated", "answer_survives"),
    "measured": ("kv_tokens", "verified"),
    "cost": ("kv_bytes", "peak_bytes", "compress_seconds", "prefill_seconds", "decode_seconds"),
}
"""What is read of every finished sample."""
_SUMMED = re.compile(rb', "crc32": "([0-9a-f]{8})"\}\r?$')
_MISNAMED = re.compile(rb', "[^"]{5}": "[0-9a-f]{8}"\}\r?$')
"""A checksum whose own name was changed: nothing else a line ends with looks like one."""


class _DamagedError(ValueError):
    """What is wrong with a line that is JSON, in words."""


class Line(NamedTuple):
    """A record, and the text it was read from: written again it is the same to the byte."""

    record: SampleRecord
    text: str


@contextmanager
def collector_paused() -> Iterator[None]:
    """No search for garbage while many objects are made that all stay: it would take half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def complete_lines(data: bytes, path: Path, run: str = "", named: bool = False) -> tuple[list[Line], int]:
    """The lines in `data` up to its last newline, and how many bytes they took; `run` and `named` as in `parsed`.

    Raises
    ------
    UsageError
        If a complete line is damaged: that is no interrupted write, so nothing is guessed.
    """
    size = data.rfind(b"\n") + 1
    return parsed(data[:size], path, run, named), size


def line_of(record: SampleRecord, run: str = "") -> str:
    """A record as it stands in a file: its last field is a checksum of all before it, and of the run's hash."""
    text = json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False)
    return f'{text[:-1]}, "{SUM}": "{_checksum(text.encode(), run):08x}"}}\n'


def _checksum(text: bytes, run: str) -> int:
    return zlib.crc32(text, zlib.crc32(run.encode()))


def _record(line: bytes, run: str, named: bool) -> SampleRecord:
    """The record of a line. Raises ValueError, KeyError, TypeError, AttributeError or RecursionError if it is none.

    A line without a checksum (of an earlier version, or put together by a person) is taken as it is, if all is
    there that is read of a finished sample. So is one of a version whose checksum did not cover the run, unless the
    run was begun by a later one (`named`): then it is of another.
    """
    found: dict[str, Any] = json.loads(line)
    if not all(isinstance(found[name], str) for name in ("id", "task", "status")):
        raise TypeError("a field of another type")
    if not all(isinstance(found.get(name, kind()), kind) for name, kind in _KINDS.items()):
        raise TypeError("a field of another type")
    if SUM in found:
        found.pop(SUM)
        told = _SUMMED.search(line)
        whole = b"" if told is None else line[: told.start()] + b"}"
        right = {_checksum(whole, run)} | (set() if named else {zlib.crc32(whole)})
        if told is None or int(told[1], 16) not in right:
            raise _DamagedError("its checksum is another, or it is of another run")
    elif _MISNAMED.search(line):
        raise _DamagedError("its checksum has another name")
    elif found["status"] == "ok":
        _check_finished(found)
    if found["status"] == "ok":
        _check_scores(found)
    return SampleRecord.from_json(found)


def _check_finished(record: dict[str, Any]) -> None:
    """Raise `_DamagedError` unless a record has what is read of a finished sample."""
    for name, inner in _FINISHED.items():
        for part in ("", *inner):
            if name not in record or (part and part not in record[name]):
                raise _DamagedError(f"it has no {f'{name}.{part}' if part else name}")


def _check_scores(record: dict[str, Any]) -> None:
    """Raise `_DamagedError` for a score that no task gives: whoever averages it averages nonsense."""
    for name, value in record.get("scores", {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _DamagedError(f"its score {name} is no number")
        if not -1e-9 <= value <= 1 + 1e-9:
            raise _DamagedError(f"its score {name} is {value:g}, which is not 0..1")


def parsed(data: bytes, path: Path, run: str = "", named: bool = False) -> list[Line]:
    """Every line of `data`; one at its end that is torn is left out.

    Parameters
    ----------
    path
        Named in messages.
    run
        The hash of the run they should be of.
    named
        Whether all checksums of that run cover its hash (see `NAMED`).

    Raises
    ------
    UsageError
        For a line that is damaged, of another run, or says again what one before it has said.
    """
    lines = data.split(b"\n")
    found = []
    places: dict[Key, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = _record(line, run, named)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if number == len(lines):
                break
            why = f" ({error})" if isinstance(error, _DamagedError) else ""
            raise UsageError(
                f"{path} line {number} is damaged{why}; remove that line to run its sample again"
            ) from None
        if record.finished and (before := places.setdefault(record.key, number)) != number:
            raise UsageError(
                f"{path} lines {before} and {number} are both of {record.task} {record.id}; remove one of them"
            )
        found.append(Line(record, f"{line.decode()}\n"))
    return found
