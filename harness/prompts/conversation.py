"""Prompts that are conversations: made from turns, cut by turns, framed by the model's chat template.

A template decides what stands around the words of each turn. It is asked with marks in their place, so that every
word's place in the rendered text is known; then with the words themselves, to see that it leaves them as they are.
What a template does not take is put in a form that it does: neighbours of one role become one turn, and a system turn
that it refuses, or moves elsewhere, the beginning of the user's first. Without a template each turn is named by a
word in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..contracts.prompt import Prompt, Span, Turn
from ..errors import UsageError
from ..models.tokenizer_file import around

if TYPE_CHECKING:
    from ..models.model import LanguageModel

ROLES = ("system", "user", "assistant")
NAMED = {"system": "", "user": "User: ", "assistant": "Assistant: "}
"""What stands in front of a turn where there is no chat template."""
GAP = "\n\n"
"""What stands between turns there, and between turns that are read as one."""

Message = tuple[str, str]
"""Role and words."""


def prompt_of(messages: Sequence[Message], question: str = "") -> Prompt:
    """A conversation as a prompt: a system turn is the prefix, the last turn the suffix, all between the context.

    Raises
    ------
    UsageError
        If it does not end with the user, or has a turn of another role or a system turn later on.
    """
    for number, (role, _) in enumerate(messages, start=1):
        if role not in ROLES or (role == "system" and number > 1):
            raise UsageError(
                f"turn {number} of the conversation is by {role!r}: user and assistant are known there"
            )
    if not messages or messages[-1][0] != "user":
        last = messages[-1][0] if messages else "nobody"
        raise UsageError(f"the conversation ends with {last}, and not with the user's question")
    turns, place = [], 0
    for role, words in messages:
        turns.append(Turn(role, place))
        place += len(words)
    prefix = messages[0][1] if messages[0][0] == "system" else ""
    middle = messages[1 if messages[0][0] == "system" else 0 : -1]
    context = "".join(words for _, words in middle)
    last_words = messages[-1][1]
    return Prompt(prefix, context, last_words, question or last_words, turns=tuple(turns))


def messages_of(prompt: Prompt) -> list[Message]:
    """The turns of a prompt that is a conversation."""
    return [(prompt.turns[i].role, prompt.text[a:b]) for i, (a, b) in enumerate(_spans(prompt))]


def kept_turns(prompt: Prompt, head: int, tail: int) -> tuple[Turn, ...]:
    """The turns of what is left if `head` characters at the start and `tail` at the end are kept, and joined.

    A turn of which anything is kept keeps its header; so does the last one in any case.
    """
    cut = max(head, len(prompt.text) - tail)
    before: list[Turn] = []
    after: list[Turn] = []
    spans = _spans(prompt)
    for turn, (start, stop) in zip(prompt.turns, spans):
        if start < head:
            before.append(turn)
        elif stop > cut or turn is prompt.turns[-1]:
            after.append(Turn(turn.role, head + max(0, start - cut)))
    return (*before, *after)


def holds_first(opening: str, tokenizer: Any) -> bool:
    """Whether a template's words before the user's hold the first token that the tokenizer would add, by its id."""
    first = around(tokenizer)[0][:1]
    return bool(first) and first[0] in tokenizer(opening, add_special_tokens=False)["input_ids"]


def render(prompt: Prompt, model: LanguageModel, *, chat: bool, answer_prefix: str = "") -> Prompt:
    """A conversation as the model reads it, up to where its answer begins.

    What stands before the first word of the context joins the prefix, what stands after its last word (the header of
    the user's last turn among it) the suffix.

    Raises
    ------
    UsageError
        If the model's template takes the turns in no form, or rewrites their words.
    """
    spans = _spans(prompt)
    words = [prompt.text[start:stop] for start, stop in spans]
    if chat and model.has_chat_template:
        frames, cuts = _framed(prompt, model, words)
        special = prompt.special_tokens and not holds_first(frames[0], model.tokenizer)
    else:
        names = [NAMED[turn.role] for turn in prompt.turns]
        frames = [names[0], *(GAP + name for name in names[1:]), GAP + NAMED["assistant"].rstrip()]
        cuts, special = [(0, 0)] * len(words), prompt.special_tokens
    text, places = "", []
    parts: list[str] = []
    at = 0
    for frame, said, (left, right) in zip(frames, words, cuts):
        said = said[left : len(said) - right]
        parts += [frame, said]
        places.append((at + len(frame), at + len(frame) + len(said)))
        at = places[-1][1]
    text = "".join([*parts, frames[-1], answer_prefix])
    start = _place(len(prompt.prefix), spans, places, cuts, behind=False)
    end = max(start, _place(len(prompt.prefix + prompt.context), spans, places, cuts, behind=True))
    return replace(
        prompt,
        prefix=text[:start],
        context=text[start:end],
        suffix=text[end:],
        special_tokens=special,
        turns=(),
        data=tuple(places) if prompt.special_tokens else None,
    )


def _spans(prompt: Prompt) -> list[Span]:
    """The characters of each turn."""
    starts = [turn.start for turn in prompt.turns]
    return list(zip(starts, [*starts[1:], len(prompt.text)]))


def _place(
    char: int, spans: Sequence[Span], places: Sequence[Span], cuts: Sequence[Span], behind: bool
) -> int:
    """Where a character of the conversation is in the rendered text.

    At the border of two turns: `behind` the words of the first, else before those of the second.
    """
    for number, ((start, stop), place, (left, _)) in enumerate(zip(spans, places, cuts)):
        if behind and char == start and number:
            return places[number - 1][1]
        if char < stop or (number == len(spans) - 1):
            return min(place[1], place[0] + max(0, char - start - left))
    raise AssertionError("a conversation has a turn")


Form = list[tuple[str, tuple[int, ...]]]
"""Turns as a template is asked for them: a role, and which of the prompt's turns it speaks."""


def _forms(prompt: Prompt) -> Iterator[Form]:
    """The turns as they are, then in forms that stricter templates take."""
    form: Form = [(turn.role, (number,)) for number, turn in enumerate(prompt.turns)]
    yield form
    merged: Form = []
    for role, numbers in form:
        if merged and merged[-1][0] == role:
            merged[-1] = (role, merged[-1][1] + numbers)
        else:
            merged.append((role, numbers))
    system, rest = (merged[:1], merged[1:]) if merged[0][0] == "system" else ([], merged)
    if rest[0][0] == "assistant":  # what was cut began in the middle
        rest = [("user", ()), *rest]
    yield [*system, *rest]
    if system:
        yield [("user", (*system[0][1], *rest[0][1])), *rest[1:]]


def _framed(prompt: Prompt, model: LanguageModel, words: Sequence[str]) -> tuple[list[str], list[Span]]:
    """What the template writes before, between and after the turns' words, and the blanks it cuts off theirs."""
    problem = "leaves turns out or changes their order"
    for form in _forms(prompt):
        try:
            frames = _asked(model, form, [f"\ue000{n}\ue001" for n in range(len(words))])
            padded = _asked(model, form, [f" \ue000{n}\ue001 " for n in range(len(words))])
            if frames is None or padded is None:
                continue
            cuts = [
                (
                    0 if padded[n].endswith(frames[n] + " ") else _left(said),
                    0 if padded[n + 1].startswith(" " + frames[n + 1]) else _right(said),
                )
                for n, said in enumerate(words)
            ]
            kept = [said[left : len(said) - right] for said, (left, right) in zip(words, cuts)]
            whole = "".join(part for pair in zip(frames, kept) for part in pair) + frames[-1]
            if whole == model.render_messages(_spoken(form, words)):
                return frames, cuts
            problem = "rewrites the words of turns"
        except UsageError as error:
            problem = str(error)
    raise UsageError(
        f"model {model.name}: a conversation does not go through its chat template: {problem}; "
        "--chat never does without it"
    )


def _spoken(form: Form, words: Sequence[str]) -> list[Message]:
    return [(role, GAP.join(words[n] for n in numbers)) for role, numbers in form]


def _asked(model: LanguageModel, form: Form, marks: Sequence[str]) -> list[str] | None:
    """What stands before, between and after marks that stand for the turns' words; None: not all, or not in order."""
    rest, frames = model.render_messages(_spoken(form, marks)), []
    for mark in marks:
        frame, found, rest = rest.partition(mark.strip())
        if not found:
            return None
        frames.append(frame)
    return [*frames, rest]


def _left(said: str) -> int:
    return len(said) - len(said.lstrip())


def _right(said: str) -> int:
    return len(said) - len(said.rstrip()) if said.strip() else 0
