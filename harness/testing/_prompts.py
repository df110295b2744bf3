"""Prompts that the checks make: of any length, of plain sentences, with a question at the end."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..contracts.prompt import Prompt, TokenizedPrompt
from ..prompts.rendering import render, tokenize
from ._results import Failed

if TYPE_CHECKING:
    from ..models.model import LanguageModel

SENTENCE = 16
"""About so many tokens has a sentence: where the search for a prompt's length begins."""

WORDS = (
    "grass sky sun river stone bird cloud door lamp road tree boat bell coin fish glass horse king leaf moon"
)


def prompt_of(model: LanguageModel, tokens: int, seed: int, question: str) -> TokenizedPrompt:
    """A prompt of nearly (never more than) `tokens` tokens; another `seed` is another text."""
    draw, words = random.Random(seed), WORDS.split()
    sentences = [_sentence(draw, words) for _ in range(tokens // 4 + 1)]
    best: TokenizedPrompt | None = None
    fits, too_many, guess = 0, len(sentences) + 1, tokens // SENTENCE
    while too_many - fits > 1:
        guess = min(max(guess, fits + 1), too_many - 1)
        made = prompt_from(model, sentences[:guess], question)
        if len(made) <= tokens:
            fits, best = guess, made
        else:
            too_many = guess
        guess += math.floor((tokens - len(made)) * guess / len(made))
    if best is None:
        raise Failed(f"a prompt of {tokens} tokens leaves no room for a text; what is context_limit?")
    return best


SHORT = (40, 60, 90, 150)
"""Tokens of prompts that a method may leave as they are."""

BETWEEN = (" ", "\n", "\n\n", "  ", "\n\t")
"""What stands by turns between the sentences of `prompt_in_lines`."""


def prompt_in_lines(model: LanguageModel, tokens: int, question: str) -> TokenizedPrompt:
    """A prompt of nearly `tokens` tokens with line ends, indents and double blanks in its text, as files have them."""
    draw, words = random.Random(21), WORDS.split()
    text, best = "", None
    for number in range(tokens):
        clause = f"the {draw.choice(words)} is {draw.randrange(1000)}."
        text += clause if not text else BETWEEN[number % len(BETWEEN)] + clause
        made = prompt_from(model, [text], question)
        if len(made) > tokens:
            break
        best = made
    if best is None:
        raise Failed(f"a prompt of {tokens} tokens leaves no room for a text")
    return best


INSTRUCTION = "Read this.\n\n"


def prompt_from(
    model: LanguageModel, sentences: Sequence[str], question: str, instruction: str = INSTRUCTION
) -> TokenizedPrompt:
    """The prompt of these sentences and this question, as the model reads it."""
    raw = Prompt(instruction, " ".join(sentences), f"\n\n{question}", question)
    return tokenize(render(raw, model, chat=True), model)


def two_questions(tokenizer: Any) -> tuple[str, str]:
    """Two questions in different words and of the same number of tokens, at the same place."""
    sizes: dict[int, str] = {}
    for word in WORDS.split():
        question = f"Where is the {word}?"
        size = len(tokenizer(question, add_special_tokens=False)["input_ids"])
        if size in sizes:
            return sizes[size], question
        sizes[size] = question
    raise Failed("no two words of this tokenizer have the same number of tokens; try another --model")


def _sentence(draw: random.Random, words: Sequence[str]) -> str:
    return f"The {draw.choice(words)} is {draw.randrange(1000)}, the {draw.choice(words)} is not."
