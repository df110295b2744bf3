"""Where LongBench's rows come from: a folder of JSON lines, or the official archive on the hub."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from token import STRING
from tokenize import TokenError, generate_tokens
from typing import IO, Any

from harness.contracts import TaskEnvironment
from harness.errors import Unavailable, UsageError

from .._rows import Twice, fingerprint, from_hub, objects, unique
from .metrics import CLASSIFIED, unanswerable
from .prompts import LONGBENCH_E, base

HUB_REPOSITORY = "THUDM/LongBench"
HUB_FILE = "data.zip"


@dataclass(frozen=True)
class Row:
    """One line of a data set, checked.

    Attributes
    ----------
    id
        The row's ``_id``, else a hash of its content; unique in the data set.
    question
        The field ``input``; empty in the summary sets.
    context, answers
        As stored.
    classes
        The field ``all_classes`` of a classification set, in its order; else None.
    length
        The stored length in words (characters for Chinese), if the row has one.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    classes: tuple[str, ...] | None
    length: int | None


def rows(dataset: str, env: TaskEnvironment, told: Callable[[str], None] | None = None) -> Iterator[Row]:
    """The rows of `dataset` in file order, at most ``env.limit``.

    They are read from ``<env.data_dir>/<dataset>.jsonl``; without a folder from ``data/<dataset>.jsonl`` in
    the official archive, which is downloaded once (never when ``env.offline``). No loading script is run.
    Before the first row `told` is given a fingerprint of the whole file.

    Raises
    ------
    UsageError
        If the file is missing or empty, or a line is broken (named by file and number).
    """
    if env.limit is not None and env.limit < 1:
        return
    with ExitStack() as stack:
        lines, name = _open(dataset, env, stack)
        if told is not None:
            told(fingerprint(lines, name))
        seen: set[str] = set()
        lost: list[str] = []
        twice = Twice(env.notify)
        for value, place in objects(lines, name):
            twice.see(value, place)
            row = _parse(dataset, value, place)
            if unanswerable(base(dataset), row.answers, row.classes or ()):
                lost.append(place)
            yield replace(row, id=unique(row.id, seen))
            if len(seen) == env.limit:
                break
        if not seen:
            raise UsageError(f"{name}: no rows in it")
        if lost:
            raise UsageError(
                f"{lost[0]}: no answer can score here, for none is accepted that has a word, a number or a class "
                f"to score by; {len(lost)} of {len(seen)} rows are like that: mend or remove them"
            )


def fetch(offline: bool) -> Path:
    """The official archive on this machine's disk, downloaded if it must be and may be.

    Raises
    ------
    UsageError
        If it is not here and cannot be had.
    """
    otherwise = "give --data-dir a folder with one <dataset>.jsonl for each data set"
    try:
        return from_hub("longbench", HUB_REPOSITORY, HUB_FILE, offline, otherwise)
    except Unavailable as error:
        raise UsageError(str(error)) from error  # all sets are in it: no use in trying for the next


def text_list(value: Any, field: str) -> tuple[str, ...]:
    """A list of strings, also one written out as a Python literal (some copies of the data store that).

    numpy and pandas write no commas, and Python joins strings that stand side by side: each counts by itself.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if isinstance(value, str):
        try:
            found = ast.literal_eval(value)
            flat = isinstance(found, list) and all(isinstance(item, str) for item in found)
            value = (_side_by_side(value) or found) if flat else found
        except (ValueError, SyntaxError, MemoryError, RecursionError, TokenError):
            value = None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"field {field!r} must be a list of strings")
    return tuple(value)


def _side_by_side(text: str) -> list[Any] | None:
    """Every string of a flat list written out, those that nothing but blanks part included; None of another list."""
    lines = io.StringIO(text.strip())
    words = [token for token in generate_tokens(lines.readline) if token.string.strip()]
    strings = [token.string for token in words if token.type == STRING]
    others = {token.string for token in words if token.type != STRING}
    return [ast.literal_eval(string) for string in strings] if others <= {"[", "]", ","} else None


def classes_of(dataset: str, row: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names of a classification set's row; None for any other set, whatever the row holds."""
    if base(dataset) not in CLASSIFIED:
        return None
    return text_list(row.get("all_classes"), "all_classes")


def _open(dataset: str, env: TaskEnvironment, stack: ExitStack) -> tuple[IO[bytes], str]:
    """The lines of the data set's file, closed with `stack`, and the file's name for messages."""
    if env.data_dir is not None:
        path = env.data_dir / f"{dataset}.jsonl"
        try:
            return stack.enter_context(path.open("rb")), str(path)
        except OSError as error:
            raise Unavailable(f"longbench/{dataset}: cannot read {path} ({error.strerror})") from error
    archive, member = fetch(env.offline), f"data/{dataset}.jsonl"
    try:
        folder = stack.enter_context(zipfile.ZipFile(archive))
        return stack.enter_context(folder.open(member)), f"{archive}:{member}"
    except KeyError:
        raise UsageError(f"longbench/{dataset}: no {member} in {archive}") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"longbench/{dataset}: cannot read {archive} ({error}); fetch it again") from error


def _parse(dataset: str, value: dict[str, Any], place: str) -> Row:
    for field in ("input", "context"):
        if not isinstance(value.get(field), str):
            raise UsageError(f"{place}: field {field!r} must be a string")
    length = value.get("length")
    if not isinstance(length, int) or isinstance(length, bool):
        if dataset in LONGBENCH_E:
            raise UsageError(f"{place}: field 'length' must be a whole number")
        length = None
    try:
        answers = text_list(value.get("answers"), "answers")
        classes = classes_of(dataset, value)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    question, context = value["input"], value["context"]
    row_id = value.get("_id")
    if row_id is None or row_id == "":
        content = json.dumps([question, context, answers])
        row_id = hashlib.sha256(content.encode()).hexdigest()[:24]
    return Row(str(row_id), question, context, answers, classes, length)
