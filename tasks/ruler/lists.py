"""The three tasks that count or look things up: common words, frequent words, questions over documents."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Callable

from harness.errors import UsageError

from . import sources
from .drafts import Draft, Maker, shuffled
from .protocol import CWE, FWE, QA, SHORT


class CommonWords(Maker):
    """`cwe`: ten words occur more often than all others in a numbered list. A unit is a different word.

    Ten words stand in the list 30 times and the others 3 times, below 4K 6 times and once; the worked example
    has 40 words (10 and 3 times), below 4K 20 (3 and 1).

    Parameters
    ----------
    seed, length
        The run's seed and the length asked for, in tokens.
    more_words
        Gives the longer list, asked only where a text needs more different words than wonderwords has.
    """

    COMMON = 10

    def __init__(self, seed: int, length: int, more_words: Callable[[], tuple[str, ...]]) -> None:
        self.seed, self.more_words = seed, more_words
        kinds = ("noun", "adjective", "verb")
        self.words = shuffled(sorted({word for kind in kinds for word in sources.word_list(kind)}), seed)
        self.minimum = self.COMMON
        self.plateau = len(self.words)
        self.repeats = (30, 3) if length >= SHORT else (6, 1)
        self.example = (40, 10, 3) if length >= SHORT else (20, 3, 1)

    def draw(self, units: int, rng: random.Random, index: int) -> Draft:
        shown, shown_common = self._list(*self.example, rng)
        context, common = self._list(units, *self.repeats, rng)
        example, prefix = CWE.fill(shown)
        answer = " ".join(f"{number}. {word}" for number, word in enumerate(shown_common, start=1))
        prompt, prefix = CWE.fill(context, f"{example.text}{prefix} {answer}\n")
        return Draft(prompt, prefix, tuple(common))

    def _list(self, units: int, often: int, seldom: int, rng: random.Random) -> tuple[str, list[str]]:
        words: list[str] | tuple[str, ...] = self.words
        if units > len(words):
            words = self.more_words()
            if units > len(words):
                raise UsageError(
                    f"ruler/cwe: {units} different words are needed, the longest list has {len(words)}"
                )
        chosen = rng.sample(words, units)
        common = chosen[: self.COMMON]
        entries = shuffled(common * often + chosen[self.COMMON :] * seldom, self.seed)
        return " ".join(f"{number}. {word}" for number, word in enumerate(entries, start=1)), common


class FrequentWords(Maker):
    """`fwe`: coded words whose frequencies follow a zeta distribution (exponent 2). A unit is a word of text.

    The most frequent "word" is ``...``; the three that follow are asked for.

    Parameters
    ----------
    seed, length
        The run's seed and the length asked for, in tokens.
    new_tokens
        Tokens kept for the answer.
    """

    EXPONENT = 2
    LETTERS = 6

    def __init__(self, seed: int, length: int, new_tokens: int) -> None:
        self.seed = seed
        room = length - new_tokens
        self.vocabulary = room // 50
        if self.vocabulary < 4:  # dots and three words
            raise UsageError(
                f"ruler/fwe: length {length} is too short: it takes 200 tokens and the answer {new_tokens}"
            )
        self.grid = self.increment = room // 32
        start = room // self.LETTERS  # the official search begins here and goes in steps of the grid
        # The fourth most frequent word occurs at least once from 27 words on.
        least = math.ceil(4**self.EXPONENT * _ZETA_2)
        self.minimum = start % self.grid
        while self.minimum < least:
            self.minimum += self.grid

    def draw(self, units: int, rng: random.Random, index: int) -> Draft:
        words: set[str] = set()
        while len(words) < self.vocabulary:
            words.add("".join(rng.choices(string.ascii_lowercase, k=self.LETTERS)))
        ranked = shuffled(sorted(words), self.seed)
        ranked[0] = "..."
        text = [
            word
            for rank, word in enumerate(ranked, start=1)
            for _ in range(int(units / rank**self.EXPONENT / _ZETA_2))
        ]
        prompt, prefix = FWE.fill(" ".join(shuffled(text, self.seed)))
        return Draft(prompt, prefix, tuple(ranked[1:4]))


_ZETA_2 = math.pi**2 / 6


class Documents(Maker):
    """`qa_*`: a question over its own documents among others. A unit is a document.

    SQuAD's distractors are first the other paragraphs of the question's article, then any; HotpotQA's own
    ten documents are all kept. Questions come in the order of the file.

    Parameters
    ----------
    seed
        The run's seed.
    data
        Questions and documents.
    """

    def __init__(self, seed: int, data: sources.Questions) -> None:
        self.seed, self.data = seed, data
        self.margin = 16  # rare characters and blanks of all kinds, another few in each draw
        self.available = len(data.questions)
        self.minimum = max(len(question.own) for question in data.questions)

    def draw(self, units: int, rng: random.Random, index: int) -> Draft:
        question, pool = self.data.questions[index], self.data.documents
        if units < len(pool):
            extra = units - len(question.own)
            if extra > len(question.related):
                taken = {*question.own, *question.related}
                others = [i for i in range(len(pool)) if i not in taken]
                more = [*question.related, *rng.sample(others, extra - len(question.related))]
            else:
                more = rng.sample(question.related, extra)
            documents = [pool[i] for i in (*question.own, *more)]
        else:
            documents = (list(pool) * -(-units // len(pool)))[:units]
        numbered = enumerate(shuffled(documents, self.seed), start=1)
        context = "\n\n".join(f"Document {number}:\n{document}" for number, document in numbered)
        prompt, prefix = QA.fill(context, query=question.text)
        return Draft(prompt, prefix, question.answers, {"documents": units})
