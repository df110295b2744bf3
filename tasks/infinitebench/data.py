"""Where InfiniteBench's rows come from, the official files or the hub, and what their answers mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts import TaskEnvironment
from harness.errors import UsageError

from .. import _files
from .._rows import Twice, unique
from .generators import GENERATED
from .prompts import CHOICE, TASKS

HUB_REPOSITORY = "xinrongzhang2022/InfiniteBench"


@dataclass(frozen=True)
class Labels:
    """What is accepted: the texts as `metrics.score` takes them, and the right option's letter, if any."""

    texts: tuple[str, ...]
    letter: str = ""


@dataclass(frozen=True)
class Row:
    """One line of an official file, checked. `question` is its ``input``, `options` is empty for most tasks."""

    id: str
    context: str
    question: str
    options: tuple[str, ...]
    labels: Labels
    place: str


def rows(task: str, env: TaskEnvironment, told: Callable[[str], None] | None = None) -> Iterator[Row]:
    """The rows of `task` in file order, at most ``env.limit``; one is in memory at a time.

    They are read from ``<env.data_dir>/<task>.jsonl``; without a folder from the file of that name on the
    hub, which is downloaded once (never when ``env.offline``). Ids are the rows' own, else their number.
    Before the first row `told` is given a fingerprint of the whole file.

    Raises
    ------
    UsageError
        If the file is missing or empty, or a line is broken (named by file and number).
    """
    seen: set[str] = set()
    twice = Twice(env.notify)
    for value, place in _files.rows(_source(task), env, told):
        twice.see(value, place)
        yield _row(task, value, place, seen)


def fetch(offline: bool) -> Path:
    """The nine files that are not made here, downloaded unless they are here; the folder of the last.

    Raises
    ------
    UsageError
        If one is not here and cannot be had.
    """
    paths = [_files.fetched(_source(task), offline) for task in TASKS if task not in GENERATED]
    return paths[-1].parent


def _source(task: str) -> _files.Source:
    file = f"{task}.jsonl"
    return _files.Source(f"infinitebench/{task}", (file,), HUB_REPOSITORY, file)


def _row(task: str, value: dict[str, Any], place: str, seen: set[str]) -> Row:
    for field in ("context", "input"):
        if not isinstance(value.get(field), str):
            raise UsageError(f"{place}: field {field!r} must be a string")
    options = value.get("options") or []
    try:
        found = labels(task, value.get("answer"), "answer", options)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    row_id = str(value.get("id", len(seen)))
    return Row(unique(row_id, seen), value["context"], value["input"], tuple(options), found, place)


def labels(task: str, answer: Any, field: str, options: Any = ()) -> Labels:
    """What `answer` accepts, in any of the forms that official files and results have it in.

    Parameters
    ----------
    task
        One of `TASKS`.
    answer
        A string or a list of strings; for `math_find` and `code_run` a number, for `math_calc` a list of whole
        numbers, each also in a list of one or written out; with options the right one's text, also in a list
        of one, or text and letter.
    field
        What `answer` is called, for messages.
    options
        The four options, where `answer` has no letter.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if task in CHOICE:
        return _chosen(answer, field, options)
    if task == "math_calc":
        numbers = _unpacked(answer)
        if not isinstance(numbers, list) or not numbers or not all(_is_number(n, int) for n in numbers):
            raise UsageError(f"field {field!r} must be a list of whole numbers")
        return Labels((json.dumps(numbers),))
    if task in ("math_find", "code_run"):
        kinds = (int,) if task == "code_run" else (int, float)
        number = _unpacked(answer)
        number = number[0] if isinstance(number, list) and len(number) == 1 else number
        if not _is_number(number, *kinds):
            raise UsageError(f"field {field!r} must be a {'whole ' if task == 'code_run' else ''}number")
        return Labels((json.dumps(number),))
    texts = [answer] if isinstance(answer, str) else answer
    if not _are_texts(texts):
        raise UsageError(f"field {field!r} must be a string or a list of strings")
    if not any(text.strip() for text in texts):
        raise UsageError(f"field {field!r} is empty: no answer could score")
    return Labels(tuple(texts))


def _chosen(answer: Any, field: str, options: Any) -> Labels:
    if not isinstance(options, Sequence) or not (len(options) == 0 or _are_texts(options)):
        raise UsageError("field 'options' must be a list of four strings")
    given = [answer] if isinstance(answer, str) else answer
    if _are_texts(given) and all(given):
        if len(given) == 2 and given[1] in ("A", "B", "C", "D"):
            return Labels((given[0],), given[1])
        if len(given) == 1 and given[0] in options[:4]:
            return Labels((given[0],), "ABCD"[options.index(given[0])])
    raise UsageError(f"field {field!r} must be one of the options, or an option's text and its letter")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(text, str) for text in value)


def _is_number(value: Any, *kinds: type) -> bool:
    return type(value) in kinds and value == value and abs(value) != float("inf")


def _unpacked(value: Any) -> Any:
    """A number or a list of numbers, taken out of text that holds it, and of a list of one text or list."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list | str):
        return _unpacked(value[0])
    return value
