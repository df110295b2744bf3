"""Files of published benchmarks: where one lies, its rows with their places, and how many there ought to be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness.contracts import TaskEnvironment
from harness.errors import Unavailable, UsageError

from ._hub_tables import hub_table
from ._rows import fingerprint, from_hub, objects


@dataclass(frozen=True)
class Source:
    """A file of a benchmark, on the hub and in ``--data-dir``.

    Attributes
    ----------
    task
        The task it is for, for messages.
    names
        Its names in ``--data-dir``, the first that is there is read.
    repository, file, revision
        Where it lies on the hub, at which commit; no repository: it cannot be fetched.
    split, config
        Of a set that the hub has as a table and not as a file: which one it is. A table needs a revision.
    rows
        Rows of the published file; None where that is not known.
    """

    task: str
    names: tuple[str, ...]
    repository: str = ""
    file: str = ""
    revision: str | None = None
    rows: int | None = None
    split: str = ""
    config: str | None = None

    @property
    def family(self) -> str:
        """The family of the task."""
        return self.task.partition("/")[0]


def located(source: Source, env: TaskEnvironment) -> Path:
    """The file on this machine's disk: in ``--data-dir`` if that is given, else from the hub.

    Raises
    ------
    Unavailable
        If it is not there or cannot be had.
    """
    if env.data_dir is not None:
        for name in source.names:
            if (path := env.data_dir / name).is_file():
                return path
        raise Unavailable(f"{source.task}: no {' or '.join(source.names)} in --data-dir {env.data_dir}")
    return fetched(source, env.offline)


def fetched(source: Source, offline: bool) -> Path:
    """The hub's file, downloaded unless it is here, or the folder of its cache where a table is.

    Raises
    ------
    Unavailable
        If it cannot be had.
    """
    if not source.repository:
        raise Unavailable(f"{source.task}: its files are not fetched; give --data-dir with {source.names[0]}")
    if source.split:
        from huggingface_hub.constants import HF_HUB_CACHE

        _table(source, offline)
        return Path(HF_HUB_CACHE)
    return from_hub(
        source.family, source.repository, source.file, offline, _otherwise(source), source.revision
    )


def rows(
    source: Source, env: TaskEnvironment, told: Callable[[str], None] | None = None
) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a file in its order, each with its place for messages; at most ``env.limit``.

    Before the first `told` is given a fingerprint of the file, or where a table is read from the hub its commit. A
    number of rows that differs from the published one is told by ``env.notify``; in a JSON list they are counted only
    if there is no limit.

    Raises
    ------
    Unavailable
        If the file cannot be had.
    UsageError
        If it cannot be read, has no row, or a row is no JSON object (named by line).
    """
    if env.limit is not None and env.limit < 1:
        return
    if env.data_dir is None and source.split:
        yield from _table_rows(source, env, told)
        return
    path = located(source, env)
    number = 0
    for number, row in enumerate(read(path, told), start=1):
        yield row
        if number == env.limit:
            break
    if not number:
        raise UsageError(f"{path}: no rows in it")
    if number == env.limit:
        number = _lines(path)
    count_told(source, path, number, env)


def _table_rows(
    source: Source, env: TaskEnvironment, told: Callable[[str], None] | None
) -> Iterator[tuple[dict[str, Any], str]]:
    table = _table(source, env.offline)
    if told is not None:
        told(f"{source.repository}@{source.revision}")
    name = " ".join(filter(None, (source.repository, source.config, source.split)))
    for number, row in enumerate(islice(table, env.limit), start=1):
        yield dict(row), f"{name}, row {number}"
    count_told(source, Path(name), len(table), env)


def _table(source: Source, offline: bool) -> Any:
    return hub_table(
        source.family,
        source.repository,
        source.config,
        source.split,
        source.revision,
        offline,
        _otherwise(source),
    )


def _otherwise(source: Source) -> str:
    return f"give --data-dir a folder with {source.names[0]}"


def count_told(source: Source, path: Path, number: int, env: TaskEnvironment) -> None:
    """Tell the user where a file has another number of rows than the published one; 0: not counted."""
    if env.notify and number and source.rows is not None and number != source.rows:
        env.notify(
            f"{source.task}: {path.name} has {number:,} rows, the published set has {source.rows:,}; "
            "its numbers are not comparable with published ones"
        )


def read(path: Path, told: Callable[[str], None] | None = None) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a file of JSON lines or of one JSON list, each with its place.

    Raises
    ------
    UsageError
        If the file cannot be read, or what it holds is no JSON object (named by line).
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    with file:
        if told is not None:
            told(fingerprint(file, str(path)))
        if not _is_list(path):
            yield from objects(file, str(path))
            return
        try:
            text = file.read().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not UTF-8 text ({error})") from None
    yield from _elements(text, str(path))


def once(row_id: str, place: str, seen: dict[str, str]) -> str:
    """`row_id`, noted in `seen`; raises UsageError if an earlier row has it."""
    if row_id in seen:
        raise UsageError(
            f"{place}: a second row with the id {row_id!r}, after {seen[row_id]}; keep one of them"
        )
    seen[row_id] = place
    return row_id


def text_of(row: Mapping[str, Any], field: str, place: str) -> str:
    """A field that must be a string; raises UsageError with the place of the row if it is none."""
    value = row.get(field)
    if not isinstance(value, str):
        raise UsageError(f"{place}: field {field!r} must be a string")
    return value


def texts_of(row: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
    """A field that must be a list of strings, or one string; raises UsageError if it is neither."""
    value = row.get(field)
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UsageError(f"{place}: field {field!r} must be a string or a list of strings")
    return tuple(found)


def answers_of(row: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
    """Accepted answers, as `texts_of` reads them; raises UsageError if there is none, or a blank one.

    Without answers nobody can score, and a blank one stands in every text: by many measures all would be right.
    """
    found = texts_of(row, field, place)
    if not found or not all(text.strip() for text in found):
        raise UsageError(f"{place}: field {field!r} must hold an answer, and no empty one")
    return found


def answer_of(row: Mapping[str, Any], field: str, place: str) -> str:
    """The accepted answer, which must be one text and not blank (see `answers_of`)."""
    text_of(row, field, place)
    return answers_of(row, field, place)[0]


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _lines(path: Path) -> int:
    """Lines of a file that are not blank; 0 of a JSON list, whose rows are not counted by lines."""
    if _is_list(path):
        return 0
    with path.open("rb") as file:
        return sum(bool(line.strip()) for line in file)


def _elements(text: str, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a JSON list, one parsed at a time, each with the line it begins in."""
    decoder = json.JSONDecoder()
    at, line, counted, number = text.index("[") + 1, 1, 0, 0
    first, last = True, 0
    while True:
        at = _blank(text, at)
        if not first and text[at : at + 1] == ",":
            at = _blank(text, at + 1)
        elif text[at : at + 1] == "]":
            return
        line, counted = line + text.count("\n", counted, at), at
        number += 1
        place = f"{name}, line {line}" + (f" (row {number})" if line == last else "")
        last = line
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{place}: not JSON ({error})") from None
        if not isinstance(value, dict):
            raise UsageError(f"{place}: not a JSON object")
        first = False
        yield value, place


def _blank(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at
