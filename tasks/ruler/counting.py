"""Counting tokens without tokenising the same words again and again.

Tokenizers split a text into words before they do anything else, so the tokens of a text are the tokens of its
words: each different word is tokenised once, and a text of 128K tokens is counted in the time it takes to
tell its words apart. Whether that holds for a tokenizer is not assumed but measured (`Counter.calibrate`).
"""

from __future__ import annotations

import re
from collections import Counter as Multiset
from dataclasses import dataclass
from typing import Any

from harness.contracts import Prompt, TaskEnvironment

_WORD = re.compile(r"[ -]?[A-Za-z0-9]+(?=-[A-Za-z0-9])| ?\S+[\r\n]*|\s+?(?= ?\S)|\s+")
"""A word with the blank before it and the newlines after it, which some tokenizers join with a full stop.

The parts of a compound are words of their own: there are six million ``adjective-noun`` and 7,700 parts.
"""

REMEMBERED = 400_000
"""Different words whose tokens are kept in memory (some 60 MB); beyond, they are counted anew."""


@dataclass(frozen=True)
class Calibration:
    """What word-wise counting misses: `offset` tokens always (template, special tokens), up to `margin` more."""

    offset: int
    margin: int


class Counter:
    """Counts the tokens of prompts as a model will read them.

    Parameters
    ----------
    env
        Its `count` is the truth; its tokenizer counts the words.
    """

    def __init__(self, env: TaskEnvironment) -> None:
        self.env = env
        self._known: dict[str, int] = {}
        self._sides: dict[tuple[str, str], int] = {}

    def exact(self, prompt: Prompt, answer_prefix: str) -> int:
        """Tokens by the environment's own count: the whole text is rendered and tokenised."""
        return self.env.count(prompt, True, answer_prefix)

    def words(self, *texts: str) -> int:
        """Tokens of the words of `texts`: without template, and apart by what joins across words."""
        total = 0
        found: Multiset[str] = Multiset()
        for text in texts:
            found.update(_WORD.findall(text))
        unknown = [word for word in found if word not in self._known]
        if unknown:
            if len(self._known) + len(unknown) > REMEMBERED:
                self._known.clear()
                unknown = list(found)
            self._known.update(zip(unknown, self._tokens_of(unknown)))
        for word, times in found.items():
            total += times * self._known[word]
        return total

    def prompt_words(self, prompt: Prompt, answer_prefix: str) -> int:
        """`words` of a whole prompt."""
        return self.words(prompt.text, answer_prefix)

    def blocks(self, text: str, size: int = 200_000) -> int:
        """Tokens of a text of any length in little memory: in blocks of `size` characters, cut at blanks.

        Without template and special tokens. What joins across words is counted, but for the cuts.
        """
        total = start = 0
        while start < len(text):
            end = text.find(" ", start + size)
            end = len(text) if end < 0 else end
            total += self._tokens_of([text[start:end]])[0]
            start = end
        return total

    def calibrate(self, drafts: list[tuple[Prompt, str]]) -> Calibration:
        """Compare both ways of counting on prompts of the kind and size that are to be counted.

        The margin is twice the spread of the differences: 0 where the words account for every token, as they
        do with byte-level tokenizers.
        """
        gaps = [self.exact(*draft) - self.prompt_words(*draft) for draft in drafts]
        return Calibration(max(gaps), 2 * (max(gaps) - min(gaps)))

    def _tokens_of(self, words: list[str]) -> list[int]:
        """Tokens that each word adds between others.

        Some tokenizers put a blank before a text's first word, and some cut the last of several blanks and
        newlines off where a letter follows: so a word is counted with something on either side.
        """
        sides = [(_side(word[0], "a", "\n"), _side(word[-1], "x", "")) for word in words]
        for side in {*sides} - {*self._sides}:
            before, after = side
            self._sides[side] = self._lengths([before])[0]
            if after:
                newline, followed = self._lengths(["\n", f"\n{after}"])
                self._sides[side] += followed - newline
        lengths = self._lengths([before + word + after for (before, after), word in zip(sides, words)])
        return [n - self._sides[side] for n, side in zip(lengths, sides)]

    def _lengths(self, texts: list[str]) -> list[int]:
        tokenizer: Any = self.env.tokenizer
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if hasattr(
            backend, "encode_batch_fast"
        ):  # five times faster for thousands of words: no offsets, no dicts
            backend.no_truncation()
            backend.no_padding()
            return [len(encoded) for encoded in backend.encode_batch_fast(texts, add_special_tokens=False)]
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
        return [len(ids) for ids in encoded["input_ids"]]


def _side(neighbour: str, of_blank: str, of_other: str) -> str:
    return of_blank if neighbour.isspace() else of_other
