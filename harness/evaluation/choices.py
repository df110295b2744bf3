"""From a sample's texts to what a method is asked in tokens: choices, and what ends an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..contracts.prompt import Prompt
from ..errors import UsageError
from ..prompts.rendering import adds_special, trim
from ..prompts.tokenization import continuation_ids, encode, trailing_blanks

if TYPE_CHECKING:
    from ..contracts.task import Sample
    from ..models.model import LanguageModel


@dataclass(frozen=True)
class InTokens:
    """A rendered prompt, and the token ids of the choices after it (none if an answer is generated).

    `alone`: places of the choices that were tokenised without the prompt, as a token would have swallowed them.
    """

    prompt: Prompt
    continuations: tuple[tuple[int, ...], ...]
    alone: tuple[int, ...] = ()


def in_tokens(sample: Sample, rendered: Prompt, tokenizer: Any) -> InTokens:
    """Tokenise a sample's choices after its rendered prompt, as lm-eval does for causal models.

    Blanks at the end of the prompt are read as the beginning of each choice: most vocabularies hold a word
    together with the blank before it. A choice that keeps no token of its own, because one spans the end of the
    prompt, is tokenised alone: lm-eval has no answer for it.

    Raises
    ------
    UsageError
        If a choice is not a single token long even so.
    """
    if not sample.choices:
        return InTokens(rendered, ())
    blanks = trailing_blanks(rendered.text)
    prompt = trim(rendered, 0, blanks)
    moved = rendered.text[len(rendered.text) - blanks :]
    special = adds_special(prompt, tokenizer)
    found = tuple(
        tuple(continuation_ids(tokenizer, prompt.text, moved + choice, special, prompt.data, prompt.joints))
        for choice in sample.choices
    )
    alone = tuple(i for i, ids in enumerate(found) if not ids)
    whole = tuple(ids or _alone(tokenizer, moved + sample.choices[i]) for i, ids in enumerate(found))
    if not all(whole):
        empty = sample.choices[next(i for i, ids in enumerate(whole) if not ids)]
        raise UsageError(f"sample {sample.id}: the choice {empty!r} has no token")
    return InTokens(prompt, whole, alone)


def _alone(tokenizer: Any, choice: str) -> tuple[int, ...]:
    """The tokens of a choice without the text before it."""
    return tuple(encode(tokenizer, choice, special=False).ids)


def stop_ids(sample: Sample, model: LanguageModel) -> tuple[int, ...]:
    """Token ids that end the sample's answer besides the model's own end tokens."""
    last = [
        ids[-1]
        for text in sample.stop
        if (ids := model.tokenizer(text, add_special_tokens=False)["input_ids"])
    ]
    return tuple(dict.fromkeys([*last, *tokens_holding(model, sample.until)]))


@lru_cache(maxsize=4)
def tokens_holding(model: LanguageModel, strings: tuple[str, ...]) -> tuple[int, ...]:
    """Every token whose own text holds one of the strings: after it an answer is cut in any case."""
    if not strings:
        return ()
    texts = model.tokenizer.batch_decode([[i] for i in range(model.config.vocab_size)])
    return tuple(i for i, text in enumerate(texts) if any(s and s in text for s in strings))


def cut_at(text: str, strings: Sequence[str]) -> str:
    """`text` before the strings in it, cut at one after another in their order, as lm-eval does."""
    for string in strings:
        if string:
            text = text.split(string, 1)[0]
    return text
