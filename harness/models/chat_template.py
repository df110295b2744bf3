"""How a model is spoken to: its chat template, and the tokens that end its answers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>")
"""Tokens that end a turn, in models whose chat template writes them."""

DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>")
"""Tokens between the documents a model was trained on: what follows one has nothing to do with the answer."""

_LLAMA2_CHAT = re.compile(r"llama[-_ ]?2.*chat", re.IGNORECASE)
_DATE_CALL = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_ANY_DAY = datetime(2024, 7, 26)


def is_llama2_chat(model_type: str, names: str) -> bool:
    """Whether LongBench's wrapper for the Llama-2 chat models applies; `names`: of model and folder."""
    return model_type == "llama" and _LLAMA2_CHAT.search(names) is not None


def llama2(text: str) -> str:
    """LongBench's wrapper (``build_chat`` of its ``pred.py``): no blanks, no system prompt."""
    return f"[INST]{text}[/INST]"


def llama2_turns(turns: Sequence[str]) -> str:
    """`llama2` for turns by user and assistant in turn: each exchange is a sequence of its own."""
    pairs = [f"{llama2(said)}{answer}</s><s>" for said, answer in zip(turns[:-1:2], turns[1::2], strict=True)]
    return "".join([*pairs, llama2(turns[-1])])


def render_template(tokenizer: Any, text: str) -> str:
    """One user turn through the tokenizer's own template, up to where the answer begins.

    The same words give the same text on any day: where a template asks for today's date, a fixed one is
    written into it. A template that offers a thinking mode is asked not to use it, as answers are short
    here; others ignore that.
    """
    return render_turns(tokenizer, [text])


def render_turns(tokenizer: Any, turns: Sequence[str]) -> str:
    """As `render_template`, for turns by user and assistant in turn; the last one is the user's."""
    template = _DATE_CALL.sub(lambda call: repr(_ANY_DAY.strftime(call[2])), tokenizer.get_chat_template())
    roles = itertools.cycle(("user", "assistant"))
    return str(
        tokenizer.apply_chat_template(
            [{"role": role, "content": words} for role, words in zip(roles, turns)],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
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


def end_ids(tokenizer: Any, config: Any, folder: Path) -> tuple[int, ...]:
    """Every token that ends an answer, ascending; empty if nothing declares one.

    An incomplete list is a known cause of silently wrong scores (the answer runs on), so all sources are
    joined: generation configuration, model configuration, tokenizer, the chat template's end tokens, and the
    ends of documents (which instruct models produce when asked without their template).
    """
    declared: list[Any] = [config.eos_token_id, tokenizer.eos_token_id]
    file = folder / "generation_config.json"
    if file.is_file():
        declared.append(json.loads(file.read_text("utf-8")).get("eos_token_id"))
    found: set[int] = set()
    for ids in declared:
        found.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
    template = str(tokenizer.chat_template or "")
    vocabulary = tokenizer.get_vocab()
    found.update(vocabulary[token] for token in TURN_ENDS if token in template and token in vocabulary)
    found.update(vocabulary[token] for token in DOCUMENT_ENDS if token in vocabulary)
    # A tokenizer may know tokens the network has no output for.
    return tuple(sorted(token for token in found if 0 <= token < config.vocab_size))
