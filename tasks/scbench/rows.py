"""SCBench's rows, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts import TaskEnvironment
from harness.errors import UsageError

from .._files import once
from .._rows import from_hub
from .._tables import found, table_rows
from .prompts import LETTERS, PARTS, Turn, facts_of, subject

REPOSITORY = "microsoft/SCBench"
REVISION = "283310bb8c5ba6909dd9a6b1be087d2937f76f6d"
OLD = "multi_turn_"
"""How early revisions of the data call what is called ``scbench_`` since."""


@dataclass(frozen=True)
class Row:
    """A context with its questions."""

    id: str
    context: str
    turns: tuple[Turn, ...]
    facts: dict[str, Any]


def located(task: str, env: TaskEnvironment) -> tuple[Path, str]:
    """The file of a task and which revision it is of; raises Unavailable if it cannot be had."""
    name = f"data/scbench_{task}.jsonl"
    if env.data_dir is None:
        otherwise = f"give --data-dir a folder with {Path(name).name}"
        return from_hub("scbench", REPOSITORY, name, env.offline, otherwise, REVISION), REVISION
    old = f"{OLD}{task}.jsonl"
    [path] = found(f"scbench/{task}", env.data_dir, [[name], [Path(name).name], [f"data/{old}"], [old]])
    return path, f"early, with {OLD}* names" if path.name == old else "with scbench_* names"


def read_rows(task: str, path: Path, told: Callable[[str], None], most: int) -> Iterator[Row]:
    """The rows of a file in its order, each with at most so many of its questions.

    Raises
    ------
    UsageError
        If a row is broken, or one has the id of another: by file and line.
    """
    seen: dict[str, str] = {}
    for row, place in table_rows(path, told):
        context = row.get("context", row.get("input"))
        if not isinstance(context, str) or not context.strip():
            raise UsageError(f"{place}: field 'context' must be a text")
        if not isinstance(given := row.get("id"), str | int) or isinstance(given, bool):
            raise UsageError(f"{place}: field 'id' must be a text or a number")
        turns = row.get("multi_turns")
        if not isinstance(turns, list) or not turns:
            raise UsageError(f"{place}: field 'multi_turns' must be a list of questions")
        asked = tuple(
            _turn(task, turn, f"{place}: question {number}")
            for number, turn in enumerate(turns[:most], start=1)
        )
        facts = facts_of(row)
        if any(turn.part == "repoqa" for turn in asked) and facts.keys() < {"lang", "repo"}:
            raise UsageError(f"{place}: RepoQA's rows have fields 'lang' and 'repo'")
        yield Row(once(str(given), place, seen), context, asked, facts)


def _turn(task: str, turn: Any, place: str) -> Turn:
    if not isinstance(turn, dict) or not isinstance(turn.get("input"), str):
        raise UsageError(f"{place} has no text in 'input'")
    part = _part(task, turn, place)
    answer = turn.get("answer")
    name = turn.get("name")
    if part == "repoqa" and not isinstance(name, str):
        raise UsageError(f"{place} does not say in 'name' which function it asks for")
    if part == "mf":
        number = answer[0] if isinstance(answer, list) and answer else answer
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise UsageError(f"{place}: the answer {number!r} must be a number")
        try:
            subject(turn["input"])
        except ValueError as error:
            raise UsageError(f"{place}: {error}") from None
    elif not _texts(answer) or _blank(answer):
        raise UsageError(f"{place}: field 'answer' must be a text or a list of texts, and not empty")
    return Turn(
        turn["input"], answer, _options(task, turn, place), part, name if isinstance(name, str) else ""
    )


def _part(task: str, turn: Mapping[str, Any], place: str) -> str:
    """What kind of question it is."""
    if task not in PARTS:
        return task
    said = str(turn.get("task", "")).removeprefix("scbench_").removeprefix(OLD)
    if said not in PARTS[task]:
        raise UsageError(f"{place}: field 'task' is {said!r} and must be one of {', '.join(PARTS[task])}")
    return said


def _options(task: str, turn: Mapping[str, Any], place: str) -> tuple[str, ...]:
    if task != "choice_eng":
        return ()
    options = turn.get("options")
    if not isinstance(options, list) or len(options) != len(LETTERS) or not _texts(options):
        raise UsageError(f"{place}: field 'options' must be four texts")
    answer = turn["answer"][0] if isinstance(turn["answer"], list) and turn["answer"] else turn["answer"]
    if answer not in options:
        raise UsageError(f"{place}: the answer {answer!r} is none of its options")
    return tuple(options)


def _texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
    )


def _blank(value: Any) -> bool:
    """Whether a text, or one of several, is blank: it stands in every answer."""
    return not all(each.strip() for each in ([value] if isinstance(value, str) else value))
