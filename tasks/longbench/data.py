"""Where LongBench's rows come from: a folder of JSON lines, or the official archive on the hub."""

from __future__ import annotations

import ast
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.task import TaskEnvironment

from .metrics import CLASSIFIED
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


def rows(dataset: str, env: TaskEnvironment) -> Iterator[Row]:
    """The rows of `dataset` in file order, at most ``env.limit``.

    They are read from ``<env.data_dir>/<dataset>.jsonl``; without a folder from ``data/<dataset>.jsonl`` in
    the official archive, which is downloaded once (never when ``env.offline``). No loading script is run.

    Raises
    ------
    UsageError
        If the file is missing or empty, or a line is broken (named by file and number).
    """
    if env.limit is not None and env.limit < 1:
        return
    with ExitStack() as stack:
        lines, name = _open(dataset, env, stack)
        seen: set[str] = set()
        for number, line in enumerate(_readable(lines, name), start=1):
            if not line.strip():
                continue
            row = _parse(dataset, line, f"{name}, line {number}")
            row_id = _unique(row.id, seen)
            seen.add(row_id)
            yield Row(row_id, row.question, row.context, row.answers, row.classes, row.length)
            if len(seen) == env.limit:
                return
        if not seen:
            raise UsageError(f"{name}: no rows in it")


def _readable(lines: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The lines; what cannot be read, or is no longer what was packed, is an error that names the file."""
    try:
        yield from lines
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{name} is damaged or cannot be read ({error}); fetch it again") from error


def fetch(offline: bool) -> Path:
    """The official archive on this machine's disk, downloaded if it must be and may be.

    Raises
    ------
    UsageError
        If it is not here and cannot be had.
    """
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(HUB_REPOSITORY, HUB_FILE, repo_type="dataset", local_files_only=offline)
    except Exception as error:  # the hub's client and the network below it raise all kinds
        reason = "not fetched before, and --offline" if offline else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"longbench: cannot get {HUB_FILE} of {HUB_REPOSITORY} ({' '.join(reason.split())}); run "
            "'harness data fetch longbench' where there is a network, or give --data-dir a folder with one "
            "<dataset>.jsonl for each data set"
        ) from error
    return Path(path)


def text_list(value: Any, field: str) -> tuple[str, ...]:
    """A list of strings, also one written out as a Python literal (some copies of the data store that).

    Raises
    ------
    UsageError
        If it is neither.
    """
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"field {field!r} must be a list of strings")
    return tuple(value)


def classes_of(dataset: str, row: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names of a classification set's row; None for any other set, whatever the row holds."""
    if base(dataset) not in CLASSIFIED:
        return None
    return text_list(row.get("all_classes"), "all_classes")


def _open(dataset: str, env: TaskEnvironment, stack: ExitStack) -> tuple[Iterable[bytes], str]:
    """The lines of the data set's file, closed with `stack`, and the file's name for messages."""
    if env.data_dir is not None:
        path = env.data_dir / f"{dataset}.jsonl"
        try:
            return stack.enter_context(path.open("rb")), str(path)
        except OSError as error:
            raise UsageError(f"longbench/{dataset}: cannot read {path} ({error.strerror})") from error
    archive, member = fetch(env.offline), f"data/{dataset}.jsonl"
    try:
        folder = stack.enter_context(zipfile.ZipFile(archive))
        return stack.enter_context(folder.open(member)), f"{archive}:{member}"
    except KeyError:
        raise UsageError(f"longbench/{dataset}: no {member} in {archive}") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"longbench/{dataset}: cannot read {archive} ({error}); fetch it again") from error


def _parse(dataset: str, line: bytes, place: str) -> Row:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{place}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UsageError(f"{place}: not a JSON object")
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


def _unique(row_id: str, seen: set[str]) -> str:
    """`row_id`, with the first free index appended if an earlier row has it already."""
    candidate, index = row_id, 1
    while candidate in seen:
        candidate = f"{row_id}-{index}"
        index += 1
    return candidate
