"""Prompts in three parts, as text and as tokens.

Truncation, retrieval and compression each need to know where the question is, so a prompt keeps its
instruction (`prefix`), the long text (`context`) and the question (`suffix`) apart until the very end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..contracts.prompt import Prompt, TokenizedPrompt
from ..errors import UsageError
from ..models.chat_template import MARK
from ..models.tokenizer_file import around
from . import conversation
from .tokenization import encode

if TYPE_CHECKING:
    from ..models.model import LanguageModel


def render(prompt: Prompt, model: LanguageModel, *, chat: bool, answer_prefix: str = "") -> Prompt:
    """Wrap `prompt` in the model's chat template, if `chat` and the model has one.

    The template's text before the user's words joins the prefix, the rest (assistant header and
    `answer_prefix`) joins the suffix. A template that trims its content trims the outer edges here too.

    Raises
    ------
    UsageError
        If the template changes the user's words in any other way, so that their place is lost.
    """
    if prompt.turns:
        return conversation.render(prompt, model, chat=chat, answer_prefix=answer_prefix)
    if not chat or not model.has_chat_template:
        bare = replace(prompt, suffix=prompt.suffix + answer_prefix)
        return _with_data(bare, 0, len(prompt.text)) if prompt.special_tokens else bare
    # The template is asked with a mark first: the words themselves may occur in it ("assistant", a newline).
    before, mark, after = model.render_chat(MARK).partition(MARK)
    rendered = model.render_chat(prompt.text)
    content = rendered[len(before) : len(rendered) - len(after)]
    left = len(prompt.text) - len(prompt.text.lstrip())
    right = len(prompt.text) - len(prompt.text.rstrip())
    for cut in ((0, 0), (left, right), (left, 0), (0, right)):
        trimmed = trim(prompt, *cut)
        if mark and trimmed.text == content and rendered == before + content + after:
            suffix = trimmed.suffix + after + answer_prefix
            own = conversation.holds_first(before, model.tokenizer)
            whole = replace(
                trimmed,
                prefix=before + trimmed.prefix,
                suffix=suffix,
                special_tokens=prompt.special_tokens and not own,
            )
            return _with_data(whole, len(before), len(content)) if prompt.special_tokens else whole
    raise UsageError(f"model {model.name}: its chat template rewrites the prompt; do without the template")


def by_last_line(text: str) -> Prompt:
    """A text that comes as one: up to its last line is context, the last line is the question.

    Blanks and empty lines at the end belong to the question. A text of one line is all question.
    """
    border = text.rstrip().rfind("\n") + 1
    return Prompt("", text[:border], text[border:])


def trim(prompt: Prompt, left: int, right: int) -> Prompt:
    """Remove `left` characters from the start and `right` characters from the end of the whole text."""
    text = prompt.text[left : len(prompt.text) - right if right else None]
    prefix_end = max(0, len(prompt.prefix) - left)
    context_end = max(prefix_end, len(prompt.prefix) + len(prompt.context) - left)
    return replace(
        prompt, prefix=text[:prefix_end], context=text[prefix_end:context_end], suffix=text[context_end:]
    )


def adds_special(prompt: Prompt, tokenizer: Any) -> bool:
    """Whether the tokenizer shall add its special tokens: not twice, and not where the prompt forbids it."""
    return prompt.special_tokens and not _begins_with_first(prompt.text, tokenizer)


def _with_data(prompt: Prompt, start: int, size: int) -> Prompt:
    """`prompt` with the characters said that are the task's."""
    return replace(prompt, data=((start, start + size),))


def _begins_with_first(text: str, tokenizer: Any) -> bool:
    """Whether a text spells, at its very start, the first token that the tokenizer would add."""
    first = around(tokenizer)[0][:1]
    return bool(first) and text.startswith(str(tokenizer.convert_ids_to_tokens(first[0])))


def tokenize(prompt: Prompt, model: LanguageModel, find: int | None = None) -> TokenizedPrompt:
    """Tokenise a rendered prompt once, as a whole, and find its context by character offsets.

    With `find`, the token that holds that character of the text is found too.

    A special token that the text already starts with (a chat template's BOS) is not added twice, and none stands
    after the text.

    Raises
    ------
    UsageError
        If there is not a single token, or one that the model has no embedding for.
    """
    tokenizer: Any = model.tokenizer
    special = adds_special(prompt, tokenizer)
    tokens = encode(tokenizer, prompt.text, special=special, data=prompt.data, joints=prompt.joints)
    if not tokens:
        raise UsageError("the prompt is empty: there is nothing to answer")
    if (most := max(tokens.ids)) >= model.config.vocab_size:
        raise UsageError(
            f"model {model.name}: its tokenizer writes {tokenizer.convert_ids_to_tokens(most)!r} as token {most}, but "
            f"the embedding has {model.config.vocab_size} rows; tokens were added without enlarging it"
        )
    border = len(prompt.prefix)
    # Special tokens stand for no characters, so they stay outside the context.
    last = len(tokens) - 1
    end = tokens.first_from(border + len(prompt.context))
    start = tokens.first_from(border)
    context_end = last if end is None else min(end, last)
    context_start = context_end if start is None else min(start, context_end)
    found = None if find is None else tokens.holding(find)
    return TokenizedPrompt(prompt, tuple(tokens.ids), context_start, context_end, found)
