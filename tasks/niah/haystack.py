"""Haystacks of any length, and the needles in them."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from ..ruler import sources
from ..ruler.counting import Counter

NEEDLE = "The best thing to do in {place} is {answer}."
QUESTION = "What is the best thing to do in {place}?"
PLACES = (
    ("San Francisco", "eat a sandwich and sit in Dolores Park on a sunny day"),
    ("Lisbon", "ride the yellow tram uphill before breakfast"),
    ("Kyoto", "walk beneath vermilion gates at dawn"),
    ("Oslo", "swim off a wooden pier after sauna"),
    ("Cairo", "drink mint tea beside booksellers"),
    ("Quito", "stand astride the equator wearing red socks"),
    ("Nairobi", "feed giraffes from a veranda"),
    ("Prague", "hear organ music under painted ceilings"),
    ("Hanoi", "slurp noodle soup perched on plastic stools"),
    ("Montreal", "toboggan down Mount Royal by moonlight"),
    ("Wellington", "watch kites above windy hills"),
    ("Seville", "clap along with flamenco guitarists"),
    ("Reykjavik", "soak outdoors while snow falls"),
    ("Mumbai", "play cricket against schoolchildren"),
    ("Lima", "paraglide over foggy cliffs"),
    ("Athens", "picnic among fallen marble columns"),
    ("Dakar", "dance to drums until sunrise"),
    ("Chicago", "rent a bicycle along Lake Michigan"),
    ("Vienna", "order chocolate cake with whipped cream"),
    ("Santiago", "photograph street murals through an old lens"),
    ("Seoul", "sing karaoke wearing borrowed hats"),
)
"""Where, and what is best there: the first is the published needle, the others serve one text with many."""


SPARE = 8
"""Tokens that stay free where a sample is counted in blocks."""


@dataclass(frozen=True)
class Needle:
    """A needle, and how deep it lies: percent of the haystack's tokens before it."""

    place: str
    answer: str
    depth: float

    @property
    def sentence(self) -> str:
        return NEEDLE.format(place=self.place, answer=self.answer)

    @property
    def question(self) -> str:
        return QUESTION.format(place=self.place)


class Haystack:
    """An endless row of sentences with the tokens before each of them, both grown as they are asked for.

    Parameters
    ----------
    sentence
        Gives the next sentence.
    counter
        Counts what a sentence adds after another one.
    """

    def __init__(self, sentence: Callable[[], str], counter: Counter) -> None:
        self._next, self._counter = sentence, counter
        self._sentences: list[str] = []
        self._before = array("q", [0])

    def after(self, start: int, tokens: float) -> int:
        """The last sentence end at most `tokens` tokens after that of sentence `start`, as an index."""
        self._grow(start)
        goal = self._before[start] + tokens
        while self._before[-1] <= goal:
            self._grow(len(self._sentences) + 1)
        return max(start, bisect_right(self._before, goal) - 1)

    def tokens(self, start: int, end: int) -> int:
        """Tokens of the sentences from `start` to before `end`."""
        return self._before[end] - self._before[start]

    def text(self, start: int, end: int) -> str:
        """Those sentences, a blank between them."""
        return " ".join(self._sentences[start:end])

    def _grow(self, count: int) -> None:
        while len(self._sentences) < count:
            sentence = self._next()
            self._sentences.append(sentence)
            self._before.append(self._before[-1] + self._counter.words(f" {sentence}"))


def sentence(rng: random.Random) -> str:
    """A sentence of four random words that tells nothing."""
    adjectives, nouns = sources.word_list("adjective"), sources.word_list("noun")
    first, second = rng.choice(adjectives), rng.choice(nouns)
    return f"The {first} {second} is near the {rng.choice(adjectives)} {rng.choice(nouns)}."


def bag_of_words(text: str) -> set[str]:
    """The words of a text, in lower case and without punctuation around them."""
    return {word for raw in text.lower().split() if (word := raw.strip(".,;:!?\"'()[]*“”‘’"))}
