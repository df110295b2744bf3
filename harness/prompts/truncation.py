"""Truncation: a rule with a name, applied once, and recorded for every sample.

``middle`` is LongBench's: the raw prompt (before any chat template, special tokens counted) is tokenised;
if it is longer than the limit, its first and last half of the limit are decoded and joined, and that text
is wrapped and tokenised again. The joined text may drift from the limit by a token or two. ``middle-exact`` is that
of LongBench v2: the last half has the odd token of an odd limit, and both halves are decoded as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from ..contracts.prompt import Prompt
from ..contracts.record import Truncation
from ..errors import UsageError
from .conversation import kept_turns
from .tokenization import encode, token_ids

Rule = Literal["middle", "middle-exact", "left", "right", "context-end", "none"]
RULES: tuple[str, ...] = get_args(Rule)
AUTO = "auto"
"""Instead of a rule: that of the task's official code (`harness.Task.truncation`)."""


def truncate(
    prompt: Prompt,
    rule: str,
    limit: int | None,
    tokenizer: Any,
    references: Sequence[str] = (),
    shorten: Callable[[Prompt, int, Any], Prompt] | None = None,
) -> tuple[Prompt, Truncation]:
    """Cut a raw prompt to `limit` tokens by `rule`; `references` are looked for before and after.

    A rule that is none of `RULES` is `shorten`'s, which gets prompt, limit and tokenizer.

    Raises
    ------
    UsageError
        If rule ``none`` meets a prompt over the limit, or ``context-end`` cannot cut enough because
        instruction and question alone are over it. The line shows the arithmetic.
    """
    data = prompt.special_tokens
    ids = token_ids(tokenizer, prompt.text, data=data)
    before = len(ids)
    cut = prompt
    if limit is not None and before > limit:
        if rule == "none":
            raise UsageError(
                f"a prompt of {before} tokens is over the limit of {limit} and --truncate none forbids cutting; "
                "choose another rule or a method that reads more"
            )
        if rule == "context-end":
            cut = _context_end(prompt, limit, tokenizer)
        elif rule == "middle-exact":
            cut = _middle_exact(prompt, ids, limit, tokenizer)
        elif rule in RULES:
            cut = _ends(prompt, ids, rule, limit, tokenizer)
        elif shorten is None:
            raise UsageError(f"no rule of truncation is called {rule!r}: choose from {', '.join(RULES)}")
        else:
            cut = shorten(prompt, limit, tokenizer)
    after = before if cut is prompt else len(token_ids(tokenizer, cut.text, data=data))
    there = _holds(prompt.context, references)
    survives = _holds(cut.context, references) if there else None
    return cut, Truncation(rule, limit, before, after, cut.text != prompt.text, there, survives)


def first_place(text: str, references: Sequence[str]) -> int | None:
    """The character at which one of the references first stands in the text as words of its own; None: none does."""
    found = (re.search(_as_words(r), text) for r in references if r.strip())
    return min((match.start() for match in found if match), default=None)


def _holds(text: str, references: Sequence[str]) -> bool | None:
    """Whether one of the references stands in the text as words of its own ("no" is not in "know")."""
    wanted = [r for r in references if r.strip()]
    return any(re.search(_as_words(r), text) for r in wanted) if wanted else None


def _as_words(reference: str) -> str:
    # Only Latin letters and digits are fenced: in scripts without blanks every neighbour is a letter.
    start = r"(?<![A-Za-z0-9])" if re.match(r"[A-Za-z0-9]", reference) else ""
    end = r"(?![A-Za-z0-9])" if re.search(r"[A-Za-z0-9]\Z", reference) else ""
    return start + re.escape(reference) + end


def _ends(prompt: Prompt, ids: list[int], rule: str, limit: int, tokenizer: Any) -> Prompt:
    """``middle``, ``left`` or ``right`` on the whole raw prompt."""
    half = limit // 2
    again = len(token_ids(tokenizer, ""))  # special tokens, which go before what is kept as before the whole
    kept = {
        "middle": (ids[:half], ids[len(ids) - half :]),
        "left": ([], ids[len(ids) - max(1, limit - again) :]),
        "right": (ids[:limit], []),
    }[rule]
    head, tail = (tokenizer.decode(part, skip_special_tokens=True) for part in kept)
    return split_again(prompt, head, tail)


def _middle_exact(prompt: Prompt, ids: list[int], limit: int, tokenizer: Any) -> Prompt:
    """The first ``limit // 2`` tokens and as many of the last as make up the limit, decoded together."""
    head, last = ids[: limit // 2], ids[len(ids) - (limit - limit // 2) :]
    text = tokenizer.decode(head + last, skip_special_tokens=True)
    border = len(tokenizer.decode(head, skip_special_tokens=True))
    return split_again(prompt, text[:border], text[border:])


def split_again(prompt: Prompt, head: str, tail: str) -> Prompt:
    """The three parts of ``head + tail``, the two ends that were kept of `prompt`.

    The parts are found by length, because decoding may change a character at a border. An end that reaches
    over the context holds a piece of the part beyond it too.
    """
    text = head + tail
    prompt = replace(prompt, turns=kept_turns(prompt, len(head), len(tail)))
    prefix, context, suffix = len(prompt.prefix), len(prompt.context), len(prompt.suffix)
    kept_prefix = min(prefix, len(head)) + max(0, len(tail) - context - suffix)
    kept_suffix = min(suffix, len(tail)) + max(0, len(head) - prefix - context)
    kept_prefix = min(kept_prefix, len(text))
    border = max(kept_prefix, len(text) - kept_suffix)
    return replace(prompt, prefix=text[:kept_prefix], context=text[kept_prefix:border], suffix=text[border:])


def _context_end(prompt: Prompt, limit: int, tokenizer: Any) -> Prompt:
    """Cut the end of the context only; instruction and question stay whole."""
    data = prompt.special_tokens
    span = ((0, len(prompt.context)),) if data else None
    context = list(encode(tokenizer, prompt.context, special=False, data=span).ids)
    low, high = 0, len(context)
    fixed = len(token_ids(tokenizer, prompt.prefix + prompt.suffix, data=data))
    if fixed > limit:
        raise UsageError(
            f"instruction and question take {fixed} tokens, over the limit of {limit}: the context cannot be cut enough"
        )

    def shortened(kept: int) -> Prompt:
        text = tokenizer.decode(context[:kept], skip_special_tokens=True)
        turns = kept_turns(prompt, len(prompt.prefix) + len(text), len(prompt.suffix))
        return replace(prompt, context=text, turns=turns)

    while low < high:  # the joined text may tokenise a little shorter or longer than the sum of its parts
        middle = (low + high + 1) // 2
        if len(token_ids(tokenizer, shortened(middle).text, data=data)) <= limit:
            low = middle
        else:
            high = middle - 1
    return shortened(low)
