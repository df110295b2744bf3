"""One row of training data: a text, a prompt with its answer, or a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

# Fields of the prompt, joined where several are there, the last one being required; and of the answer.
_PAIRS: Sequence[tuple[Sequence[str], str]] = (
    (("prompt",), "answer"),
    (("prompt",), "output"),
    (("context", "question"), "answer"),
    (("instruction", "input"), "output"),
    (("instruction",), "output"),
)
_USERS, _ASSISTANTS = ("user", "human"), ("assistant", "gpt")


@dataclass(frozen=True)
class Row:
    """A line: a text (`answer` is None), or a prompt with the answer to it; neither is blank for a pair."""

    text: str
    answer: str | None = None


def parse_row(value: Any, place: str) -> Row:
    """A decoded line as a row; fields beyond the known ones do not matter.

    Of a conversation (``messages`` or ``conversations``) the first exchange is taken, after the system's
    words if there are any.

    Raises
    ------
    UsageError
        Beginning with `place`, if it holds neither a text nor a prompt with an answer, or either is empty.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{place}: not a JSON object")
    row = _pair(value) or _conversation(value)
    if row is None and isinstance(value.get("text"), str):
        row = Row(value["text"])
    if row is None:
        raise UsageError(
            f"{place}: neither a text nor a prompt with an answer (fields: {', '.join(map(str, value)) or 'none'}); "
            'needed: "text", or "prompt" and "answer"'
        )
    if row.answer is not None and not row.answer.strip():
        raise UsageError(f"{place}: the answer is empty")
    if row.answer is not None and not row.text.strip():
        raise UsageError(f"{place}: the prompt is empty")
    try:
        (row.text + (row.answer or "")).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{place}: holds half of a surrogate pair, which is no character") from None
    return row


def _pair(value: Mapping[str, Any]) -> Row | None:
    for names, answer in _PAIRS:
        if isinstance(value.get(names[-1]), str) and isinstance(value.get(answer), str):
            parts = [
                value[name] for name in names if isinstance(value.get(name), str) and value[name].strip()
            ]
            if "instruction" in names and not parts:
                continue
            return Row("\n\n".join(parts), value[answer])
    return None


def _conversation(value: Mapping[str, Any]) -> Row | None:
    turns = value.get("messages", value.get("conversations"))
    if not isinstance(turns, list):
        return None
    said: list[str] = []
    for turn in turns:
        if not isinstance(turn, dict):
            return None
        role, words = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not isinstance(words, str):
            return None
        if role in _ASSISTANTS:
            return Row("\n\n".join(said), words) if said else None
        if role not in (*_USERS, "system"):
            return None
        said.append(words)
    return None
