"""Prompts in which each place can be told from every other, and what can be changed or asked there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contracts.prompt import TokenizedPrompt
from ._prompts import WORDS, prompt_from

if TYPE_CHECKING:
    from ..models.model import LanguageModel

GRAM = 4
"""So many tokens in a row are found at one place of such a text only."""

PER_SENTENCE = 5
"""Words and numbers of a sentence at least."""

SENTENCES = 64
"""Longer texts have longer sentences, not more of them, as each is asked about."""

TRIES = 60
"""Tokens tried in the place of one, until the text around it is read as before."""


@dataclass(frozen=True)
class Asked:
    """A prompt with words that were added to it.

    Attributes
    ----------
    place
        Where each token stands of the prompt without them, as far as it is there.
    """

    prompt: TokenizedPrompt
    place: dict[int, int]

    @property
    def first(self) -> int:
        """The last place before anything was added."""
        return next((old - 1 for old, new in self.place.items() if old != new), len(self.place) - 1)


class Places:
    """A text of short sentences of random words and numbers, a question, and what can be done to them.

    Parameters
    ----------
    model
        Whose tokenizer and template make the prompt.
    tokens
        Most tokens of the prompt.
    question
        What is asked; its words stand nowhere in the text unless `asking` puts them there.
    others
        Questions whose words stand nowhere in it either.
    """

    def __init__(self, model: LanguageModel, tokens: int, question: str, *others: str) -> None:
        self.model, self.question = model, question
        asked = {word.strip("?.") for text in (question, *others) for word in text.split()}
        self._per_sentence = max(PER_SENTENCE, tokens // (3 * SENTENCES))
        self._words = [word for word in WORDS.split() if word not in asked]
        self.sentences = self._fitting(tokens)
        self.prompt = prompt_from(model, self.sentences, question)

    def _fitting(self, tokens: int) -> list[str]:
        draw, found = random.Random(11), [self._sentence(random.Random(5))]
        each = len(prompt_from(self.model, [*found, *found], self.question)) - len(
            prompt_from(self.model, found, self.question)
        )
        found += [self._sentence(draw) for _ in range(tokens // max(1, each))]
        while len(found) > 1 and len(prompt_from(self.model, found, self.question)) > tokens:
            found.pop()
        return found

    def _sentence(self, draw: random.Random) -> str:
        parts = [
            draw.choice(self._words) if draw.random() < 0.5 else str(draw.randrange(1000))
            for _ in range(self._per_sentence)
        ]
        return " ".join(parts) + "."

    def asking(self, index: int) -> Asked:
        """The same text, but that behind each word of sentence `index` stands the word that the question asks for."""
        word = _asked(self.question)
        sentences = list(self.sentences)
        sentences[index] = _answering(sentences[index], word)
        prompt = prompt_from(self.model, sentences, self.question)
        added = self.model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        return Asked(prompt, _kept(self.prompt.ids, prompt.ids, added))

    def changed(self, prompt: TokenizedPrompt, place: int) -> TokenizedPrompt | None:
        """`prompt` with another token at `place` and every other as it is; None if no text is read so.

        The text is another, and read anew: methods that look at text see the same change as those that look at ids.
        """
        tokenizer, ids = self.model.tokenizer, list(prompt.ids)
        inside = ids[prompt.context_start : prompt.context_end]
        at = place - prompt.context_start
        old = tokenizer.decode([inside[at]])
        draw = random.Random(place)
        for new in draw.sample(sorted(set(inside)), min(TRIES, len(set(inside)))):
            text = tokenizer.decode([new])
            if new == inside[at] or text[:1].isspace() != old[:1].isspace():
                continue
            context = tokenizer.decode([*inside[:at], new, *inside[at + 1 :]])
            made = prompt_from(self.model, [context], self.question)
            if list(made.ids) == [*ids[:place], new, *ids[place + 1 :]]:
                return made
        return None


def two_places(
    model: LanguageModel, tokens: int, questions: tuple[str, str]
) -> tuple[TokenizedPrompt, TokenizedPrompt]:
    """One text of nearly `tokens` tokens with either question: it answers one near its start, one near its end."""
    sentences = Places(model, tokens - 10 * PER_SENTENCE, *questions).sentences
    for question, share in zip(questions, (0.2, 0.8)):
        index = int(share * (len(sentences) - 1))
        sentences[index] = _answering(sentences[index], _asked(question))
    one, other = (prompt_from(model, sentences, question) for question in questions)
    return one, other


def _asked(question: str) -> str:
    return question.strip("?").split()[-1]


def _answering(sentence: str, word: str) -> str:
    return " ".join(f"{part} {word}" for part in sentence.rstrip(".").split()) + "."


def _kept(old: Sequence[int], new: Sequence[int], added: Sequence[int]) -> dict[int, int]:
    """Where each token of `old` stands in `new`, into which `added` was put here and there."""
    found: dict[int, int] = {}
    at = 0
    for place, token in enumerate(old):
        while list(new[at : at + len(added)]) == list(added) != list(old[place : place + len(added)]):
            at += len(added)
        if at >= len(new) or new[at] != token:
            break
        found[place] = at
        at += 1
    return found


@contextmanager
def embedded(network: Any) -> Iterator[list[list[int]]]:
    """Token ids that were looked up in the model's embeddings within the block: a list for each row of each pass."""
    found: list[list[int]] = []
    hook = network.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: found.extend(args[0].reshape(-1, args[0].shape[-1]).tolist())
    )
    try:
        yield found
    finally:
        hook.remove()


def read(prompt: TokenizedPrompt, rows: Sequence[Sequence[int]]) -> set[int]:
    """Places of the context that stand in `rows`, told by the tokens before them or behind them."""
    grams = {tuple(row[i : i + GRAM]) for row in rows for i in range(len(row) - GRAM + 1)}
    ids, found = prompt.ids, set()
    for place in range(prompt.context_start, prompt.context_end):
        starts = range(max(0, place - GRAM + 1), place + 1)
        if any(tuple(ids[start : start + GRAM]) in grams for start in (starts[0], starts[-1])):
            found.add(place)
    return found


def placed(prompt: TokenizedPrompt, rows: Sequence[Sequence[int]]) -> dict[int, int]:
    """For each token of `rows`, one behind the other, its place in the prompt where the tokens around it say so."""
    ids = list(prompt.ids)
    starts: dict[tuple[int, ...], list[int]] = {}
    for start in range(len(ids) - GRAM + 1):
        starts.setdefault(tuple(ids[start : start + GRAM]), []).append(start)
    found: dict[int, int] = {}
    offset = 0
    for row in rows:
        for start in range(len(row) - GRAM + 1):
            at = starts.get(tuple(row[start : start + GRAM]), [])
            if len(at) == 1:
                found.update({offset + start + i: at[0] + i for i in range(GRAM)})
        offset += len(row)
    return found
