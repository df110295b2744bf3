"""How a model is spoken to: its chat template, and the tokens that end its answers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .reading import json_file, reading

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>")
"""Tokens that end a turn, in models whose chat template writes them; others are found by `turn_end`."""

DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>")
"""Tokens between the documents a model was trained on: what follows one has nothing to do with the answer."""

MARK = "\ue000prompt\ue000"
"""Private-use characters: in no template, and not trimmed as blanks."""

CLOSED = "\n</think>\n\n"
"""What is put after a template's words that end inside a thought."""

_DATE_CALL = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_THOUGHT = re.compile(r"<think>\s*\Z")
_DATE_LETTERS = "ABDFHIMRSTUWXYZabcdefjmpwxyz"
_ANY_DAY = datetime(2024, 7, 26)
_LLAMA2_SIZE = (4096, 32000)  # positions and vocabulary
_NEVER = "; --chat never does without the template"


def is_llama2_chat(config: Any, template: Any) -> bool:
    """Whether LongBench's wrapper for the Llama-2 chat models applies: by the model's files, not by its name."""
    size = (config.max_position_embeddings, config.vocab_size)
    words = template if isinstance(template, str) else ""
    return config.model_type == "llama" and size == _LLAMA2_SIZE and "[INST]" in words and "<<SYS>>" in words


def llama2(text: str) -> str:
    """LongBench's wrapper (``build_chat`` of its ``pred.py``): no blanks, no system prompt."""
    return f"[INST]{text}[/INST]"


def llama2_turns(turns: Sequence[str]) -> str:
    """`llama2` for turns by user and assistant in turn: each exchange is a sequence of its own."""
    pairs = [f"{llama2(said)}{answer}</s><s>" for said, answer in zip(turns[:-1:2], turns[1::2], strict=True)]
    return "".join([*pairs, llama2(turns[-1])])


def render_template(tokenizer: Any, text: str, name: str = "") -> str:
    """One user turn through the tokenizer's own template, up to where the answer begins.

    The same words give the same text on any day: where a template asks for today's date, it gets a fixed one. A
    template that offers a thinking mode is asked not to use it, as answers are short here; one that opens a thought
    nevertheless has it closed at once, so that what is answered is the answer.

    Raises
    ------
    UsageError
        In one line, if the template is broken, or asks for what one user turn does not have.
    """
    return render_turns(tokenizer, [text], name)


def render_turns(tokenizer: Any, turns: Sequence[str], name: str = "") -> str:
    """As `render_template`, for turns by user and assistant in turn; the last one is the user's."""
    return render_messages(tokenizer, list(zip(itertools.cycle(("user", "assistant")), turns)), name)


def render_messages(tokenizer: Any, turns: Sequence[tuple[str, str]], name: str = "") -> str:
    """As `render_template`, for turns of any role: pairs of role and words, the last one the user's."""
    spoken = [{"role": role, "content": words} for role, words in turns]
    rendered = _rendered(tokenizer, spoken, True, name)
    return rendered + (CLOSED if _THOUGHT.search(rendered) else "")


def asks_the_date(template: Any) -> bool:
    """Whether a template asks for the date by a format that is not written in the call."""
    return "strftime_now(" in _DATE_CALL.sub("", str(template or ""))


def _day_macro() -> str:
    """``strftime_now`` in Jinja, of the fixed day: transformers gives a template no function of ours."""
    signs = [f"%{sign}" for sign in (*(f"-{letter}" for letter in "dmIHMSj"), *_DATE_LETTERS)]
    replaced = "".join(f"|replace({sign!r}, {_ANY_DAY.strftime(sign)!r})" for sign in (*signs, "%%"))
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro %}}{{{{ '' }}}}"


def turn_end(tokenizer: Any, name: str = "") -> int | None:
    """The special token that the template writes after an assistant's words; None: none, or it has no such turns."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": MARK}]
    try:
        _, mark, after = _rendered(tokenizer, turns, False, name).rpartition(MARK)
    except UsageError:
        return None
    if not mark:
        return None
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    ids = tokenizer(after.lstrip(), add_special_tokens=False)["input_ids"]
    return int(ids[0]) if ids and ids[0] in special else None


def _rendered(tokenizer: Any, turns: list[dict[str, str]], opening: bool, name: str) -> str:
    """Turns through the template; `opening`: up to where the next answer begins."""
    with reading(name, "its chat template", _NEVER):
        template = tokenizer.get_chat_template().removeprefix("\ufeff")
        template = _DATE_CALL.sub(lambda call: repr(_ANY_DAY.strftime(call[2])), template)
        if asks_the_date(template):
            template = _day_macro() + template
        return str(
            tokenizer.apply_chat_template(
                turns,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=opening,
                enable_thinking=False,
            )
        )


@dataclass(frozen=True)
class Frame:
    """What a chat template writes around the turns of a dialogue.

    Attributes
    ----------
    before
        In front of the first turn of the user.
    asked
        Between a user's turn and the answer to it.
    between
        Between an answer and the user's next turn.
    trims
        Whether blanks around a turn are taken away.
    """

    before: str
    asked: str
    between: str
    trims: bool


def frame(render: Callable[[Sequence[str]], str]) -> Frame | None:
    """The frame of a template, read off a dialogue of three marks; None if it does not keep turns as they are."""
    marks = [f"\ue000turn {number}\ue000" for number in range(3)]
    rest, parts = render(marks), []
    for mark in marks:
        part, found, rest = rest.partition(mark)
        if not found:
            return None
        parts.append(part)
    return Frame(parts[0], rest, parts[2], f" {marks[0]} " not in render([f" {marks[0]} "]))


def end_ids(
    tokenizer: Any, config: Any, folder: Path, name: str = "", *, chat: bool = True
) -> tuple[int, ...]:
    """Every token that ends an answer, ascending; empty if nothing declares one.

    An incomplete list is a known cause of silently wrong scores (the answer runs on), so all sources are
    joined: generation configuration, model configuration, tokenizer, the chat template's end tokens (those known by
    name and, with `chat`, the one it writes after an answer), and the ends of documents (which instruct models
    produce when asked without their template).

    Raises
    ------
    UsageError
        If a file declares something else than token ids.
    """
    declared = [("the tokenizer", tokenizer.eos_token_id), ("config.json", config.eos_token_id)]
    file = folder / "generation_config.json"
    if file.is_file():
        declared.append((file.name, json_file(file, name).get("eos_token_id")))
    found: set[int] = set()
    for where, ids in declared:
        with reading(name, where):
            for each in ids if isinstance(ids, list) else [] if ids is None else [ids]:
                if not isinstance(each, int) or isinstance(each, bool):
                    raise ValueError(f"eos_token_id holds {each!r}, which is no token id")
                found.add(each)
    template = str(tokenizer.chat_template or "")
    vocabulary = tokenizer.get_vocab()
    found.update(vocabulary[token] for token in TURN_ENDS if token in template and token in vocabulary)
    found.update(vocabulary[token] for token in DOCUMENT_ENDS if token in vocabulary)
    if chat and template and (end := turn_end(tokenizer, name)) is not None:
        found.add(end)
    # A tokenizer may know tokens the network has no output for.
    return tuple(sorted(token for token in found if 0 <= token < config.vocab_size))
