"""One row of training data: a text, a prompt with its answer, or a dialogue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


LEARN = ("answer", "all")
"""What a line's ``learn`` may say: its answers (as without the field), or every token, prompt included."""


@dataclass(frozen=True)
class Row:
    """A line: a text (`answer` is None), or a prompt with the answer to it; neither is blank for a pair.

    Attributes
    ----------
    later
        Of a dialogue the exchanges after the first: what was said to the assistant, and its answer.
    learn_all
        Whether prompts are learnt as well; of a text everything is.
    """

    text: str
    answer: str | None = None
    later: tuple[tuple[str, str], ...] = ()
    learn_all: bool = False

    @property
    def exchanges(self) -> tuple[tuple[str, str], ...]:
        """Prompt and answer of each exchange, in order; none for a text."""
        return () if self.answer is None else ((self.text, self.answer), *self.later)


def parse_row(value: Any, place: str) -> Row:
    """A decoded line as a row; fields beyond the known ones do not matter.

    Of a conversation (``messages`` or ``conversations``) every exchange is taken. What stands before an answer
    (the system's words, several turns of the user) becomes one prompt; words after the last answer are left out.

    Raises
    ------
    UsageError
        Beginning with `place`, if it holds neither a text nor a prompt with an answer, or one of them is empty.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{place}: not a JSON object")
    row = _pair(value) or _conversation(value, place)
    if row is None and isinstance(value.get("text"), str):
        row = Row(value["text"])
    if row is None:
        raise UsageError(
            f"{place}: neither a text nor a prompt with an answer (fields: {', '.join(map(str, value)) or 'none'}); "
            'needed: "text", or "prompt" and "answer"'
        )
    for number, (prompt, answer) in enumerate(row.exchanges, 1):
        which = f" of exchange {number}" if row.later else ""
        if not answer.strip():
            raise UsageError(f"{place}: the answer{which} is empty")
        if not prompt.strip():
            raise UsageError(f"{place}: the prompt{which} is empty")
    try:
        "".join([row.text, *(words for exchange in row.exchanges for words in exchange)]).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{place}: holds half of a surrogate pair, which is no character") from None
    learn = value.get("learn", LEARN[0])
    if learn not in LEARN:
        raise UsageError(f'{place}: "learn" is {json.dumps(learn)[:40]}; it may be {" or ".join(LEARN)}')
    return replace(row, learn_all=learn == "all")


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


def _conversation(value: Mapping[str, Any], place: str) -> Row | None:
    turns = value.get("messages", value.get("conversations"))
    if not isinstance(turns, list):
        return None
    exchanges: list[tuple[str, str]] = []
    said: list[str] = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            return None
        role, words = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not isinstance(words, str):
            return None
        if role in (*_USERS, "system"):
            said.append(words)
        elif role not in _ASSISTANTS:
            raise UsageError(f"{place}: turn {number} is by {role!r}, not by system, user or assistant")
        elif said:
            exchanges.append(("\n\n".join(said), words))
            said = []
        elif exchanges:  # the assistant goes on
            exchanges[-1] = (exchanges[-1][0], f"{exchanges[-1][1]}\n\n{words}")
        else:
            return None
    if not exchanges:
        return None
    (prompt, answer), *later = exchanges
    return Row(prompt, answer, tuple(later))
