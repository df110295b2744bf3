"""Rows of both published MRCR, checked, as conversations or plain texts with the question at their end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contracts import Prompt, TaskEnvironment
from harness.errors import UsageError
from harness.prompts.conversation import Message, prompt_of

from .._files import once, text_of
from .._rows import from_hub
from .._tables import found, table_rows
from .scores import V2_HASH

REPOSITORY = "openai/mrcr"
REVISION = "f4c69fae7cf81f7ca26b9fee34b392a50f6b8a1d"
"""OpenAI's rows since 2025-12-05."""
FIRST = "204b0d4e8d9ca5c0a90bf942fdb2a5969094adc0"
"""OpenAI's first version, in whose rows a bug had put too many needles (10 %) or a wrong answer (5 %)."""
ROWS = 800
"""Published rows of each number of needles."""
FACTS = ("n_needles", "desired_msg_index", "total_messages", "n_chars", "date_added")
V2_FACTS = ("context_len", "answer_token_count", "num_relevant", "answer_context_position")
V2_LENGTHS = (
    "upto_128K",
    *(f"in_({4096 * 2**k},{8192 * 2**k})" for k in range(11)),
)
"""Files of DeepMind's version: all up to 128K, or one bin of lengths."""


@dataclass(frozen=True)
class Row:
    """One question.

    Attributes
    ----------
    prompt
        The conversation, its last turn the question.
    answer
        Hash and text, as they are to be said.
    prefix
        The hash.
    facts
        For the record.
    """

    id: str
    prompt: Prompt
    answer: str
    prefix: str
    facts: dict[str, Any]


def openai_files(needles: int, env: TaskEnvironment) -> tuple[list[Path], str]:
    """The files of a number of needles, and which version they are; raises Unavailable if they cannot be had."""
    new = [f"{needles}needle/{needles}needle_{part}.parquet" for part in (0, 1)]
    if env.data_dir is None:
        otherwise = f"give --data-dir a folder with {new[0]} and {new[1]}, or {needles}needle.jsonl"
        return [
            from_hub("mrcr", REPOSITORY, name, env.offline, otherwise, REVISION) for name in new
        ], REVISION
    flat = [Path(name).name for name in new]
    old = f"{needles}needle.parquet"
    names = [new, flat, [f"{needles}needle.jsonl"], [old]]
    paths = found(f"mrcr/{needles}needle", env.data_dir, names)
    first = next(table_rows(paths[0]), None)  # rows that were mended say when, the others that they were not
    return paths, "since 2025-12-05" if first is None or "date_added" in first[0] else FIRST


def openai_rows(paths: list[Path], needles: int) -> Iterator[Row]:
    """OpenAI's rows. Raises UsageError, with the place, for a broken one."""
    seen: dict[str, str] = {}
    for path in paths:
        for row, place in table_rows(path):
            messages = _messages(row, place)
            answer, prefix = text_of(row, "answer", place), text_of(row, "random_string_to_prepend", place)
            if not prefix or not answer.startswith(prefix):
                raise UsageError(
                    f"{place}: the answer does not begin with random_string_to_prepend {prefix!r}"
                )
            if (given := row.get("n_needles")) not in (None, needles):
                raise UsageError(f"{place}: it has {given} needles and not {needles}")
            facts = _kept(row, FACTS)
            try:
                prompt = prompt_of(messages)
            except UsageError as error:
                raise UsageError(f"{place}: {error}") from None
            yield Row(_id(row, place, seen), prompt, answer, prefix, facts)


def v2_file(needles: int, length: str, env: TaskEnvironment) -> Path:
    """DeepMind's file, which its own script fetches; raises Unavailable if it is not in ``--data-dir``."""
    name = f"mrcr_v2p1_{needles}needle_{length}_dynamic_fewshot_text_style_fast.csv"
    names = [[name], [f"v2_{needles}needle.jsonl"]]
    folder = env.data_dir if env.data_dir is not None else Path()
    return found(f"mrcr/v2_{needles}needle", folder, names)[0]


def v2_rows(path: Path, needles: int) -> Iterator[Row]:
    """DeepMind's rows: one text, whose last turn is the question. Raises UsageError for a broken one."""
    seen: dict[str, str] = {}
    for row, place in table_rows(path):
        text, answer = text_of(row, "queries", place), text_of(row, "answer", place)
        border = text.rfind("\n\nUser: ") + 2
        if border < 2 or "\n\nAssistant:" in text[border:]:
            raise UsageError(f"{place}: 'queries' does not end with a turn of the user")
        if len(answer.strip()) <= V2_HASH:
            raise UsageError(f"{place}: the answer has no text after a hash of {V2_HASH} characters")
        question = text[border:].removeprefix("User: ")
        facts = _kept(row, V2_FACTS)
        if (given := facts.get("num_relevant")) not in (None, needles):
            raise UsageError(f"{place}: it has {given} needles and not {needles}")
        prompt = Prompt("", text[:border], text[border:], question.strip())
        yield Row(_id(row, place, seen), prompt, answer, answer.strip()[:V2_HASH], facts)


def _messages(row: Mapping[str, Any], place: str) -> list[Message]:
    """The turns of a row: a list, or JSON of one, as published."""
    turns = row.get("prompt")
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{place}: field 'prompt' is no JSON ({error})") from None
    if not isinstance(turns, list):
        raise UsageError(f"{place}: field 'prompt' must be a list of turns, or JSON of one")
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or not all(isinstance(turn.get(k), str) for k in ("role", "content")):
            raise UsageError(f"{place}: turn {number} of the prompt has no role and content")
    return [(turn["role"], turn["content"]) for turn in turns]


def _id(row: Mapping[str, Any], place: str, seen: dict[str, str]) -> str:
    """The row's id, if it has one, else a hash of what it asks."""
    given = row.get("id")
    if given is None:
        text = json.dumps([row.get("prompt", row.get("queries")), row["answer"]], ensure_ascii=False)
        given = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return once(str(given), place, seen)


def _kept(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What a record keeps of a row, as far as it has it."""
    return {name: _number(row[name]) for name in names if row.get(name) not in (None, "")}


def _number(value: Any) -> Any:
    """A number that a CSV file holds as text; a date as text."""
    if not isinstance(value, str | int | float):
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return int(number) if number.is_integer() else number
