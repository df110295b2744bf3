"""One needle in a haystack, over a grid of lengths and depths: the heat map of long-context papers."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from harness.errors import UsageError
from harness.options import Options
from harness.prompt import Prompt
from harness.task import Sample, ScoredSample, Task, TaskEnvironment

from ._grid import checked_depths, checked_lengths, part_means, plain
from .ruler import sentences, sources
from .ruler.counting import Counter
from .ruler.needles import essays

NEEDLE = "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
ANSWER = "eat a sandwich and sit in Dolores Park on a sunny day"
QUESTION = "What is the best thing to do in San Francisco?"
HEAD = "This is a very long story book: <book> "
TAIL = " </book>.\n Based on the content of the book, Question: {question}\nAnswer:"
NEW_TOKENS = 50
STEPS = 8
"""Without `lengths`: so many equal steps up to the model's window."""

EXACT = 131_072
"""Up to this length a sample is counted as the model will read it; beyond, in blocks, to save memory."""
SPARE = 8
"""Tokens that stay free where a sample is counted in blocks."""


class NiahOptions(Options):
    """Options of `NeedleGrid`: the grid, and what the haystack is."""

    lengths: list[int] | None = Field(
        None,
        description="total lengths in the model's tokens, chat template and new tokens included; "
        "by default eight equal steps up to the model's window",
    )
    depths: list[float] = Field(
        [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
        description="places of the needle, in percent of the haystack's tokens that go before it",
    )
    trials: int = Field(
        1, ge=1, description="samples for each length and depth; the second begins elsewhere in the haystack"
    )
    haystack: Literal["auto", "essays", "words"] = Field(
        "auto",
        description="PaulGrahamEssays.json of --data-dir, sentences made of random words, or the essays if "
        "they are there",
    )

    _lengths = field_validator("lengths")(checked_lengths)
    _depths = field_validator("depths")(checked_depths)


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


class NeedleGrid(Task):
    """Recall one sentence from any depth of texts of any length: a grid for a heat map, to millions of tokens.

    The test of "Bootstrap Your Own Context Length" (https://arxiv.org/abs/2412.18860, figures 2 and 5): one
    trial for each length and depth, scored by recall as Fu et al. do (https://arxiv.org/abs/2402.10171). Their
    needle, question and frame are used, without the stray ``<|im_start|>`` before the frame. The haystack
    is Paul Graham's essays, repeated as needed, or sentences of random words that say nothing, which never
    repeat.

    Prompt as the model reads it plus new tokens come within a sentence of the length, never above. The needle
    stands between sentences, at the last place that does not exceed its depth. Each record's metadata has
    ``length`` and ``depth``, the axes of the map.
    """

    Options = NiahOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: first version",)
    metrics: ClassVar[tuple[str, ...]] = ("recall",)
    preset: str = "niah-fu2024@1"
    options: NiahOptions

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the grid, length by length, then depth by depth; each is made only as it is taken.

        Raises
        ------
        UsageError
            If a length is too short, or the essays are asked for and not there.
        """
        return islice(self._grid(env), env.limit)

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``recall``: share of the answer's distinct words that the prediction has, without case and
        surrounding punctuation; the best over the accepted answers, 0..1."""
        said = _bag(prediction)
        shares = [len(words & said) / len(words) for r in sample.references if (words := _bag(r))]
        return {"recall": max(shares, default=0.0)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """Mean recall of each length and of each depth, where there are several."""
        return part_means(scored, "recall", ("length", "depth"))

    def _grid(self, env: TaskEnvironment) -> Iterator[Sample]:
        counter = Counter(env)
        haystack, name = self._haystack(env, counter)
        window = env.context_length
        lengths = self.options.lengths or [window * step // STEPS for step in range(1, STEPS + 1)]
        sizes: dict[tuple[int, int], tuple[int, int]] = {}
        for length, depth, trial in product(lengths, self.options.depths, range(self.options.trials)):
            if (length, trial) not in sizes:
                start = random.Random(f"{env.seed}/niah/{trial}").randrange(1000) if trial else 0
                sizes[length, trial] = start, _last(haystack, counter, length, start)
            start, end = sizes[length, trial]
            while True:
                prompt, place = _prompt(haystack, start, end, depth)
                if length > EXACT or counter.exact(prompt, "") + NEW_TOKENS <= length:
                    break
                end -= 1  # the needle's place made a token more
            yield Sample(
                id=f"len{length}-depth{plain(depth)}-t{trial}",
                prompt=prompt,
                references=(ANSWER,),
                new_tokens=NEW_TOKENS,
                metadata={
                    "length": length,
                    "depth": depth,
                    "trial": trial,
                    "haystack": name,
                    "needle_position": place,
                },
            )

    def _haystack(self, env: TaskEnvironment, counter: Counter) -> tuple[Haystack, str]:
        """The haystack, and what it is made of."""
        there = env.data_dir is not None and (env.data_dir / sources.ESSAYS).is_file()
        if self.options.haystack == "essays" or (self.options.haystack == "auto" and there):
            words = sources.essays(env)
            kind = sentences.installed()
            found = essays(words, kind).first(len(words))
            position = iter(range(2**62))
            return Haystack(lambda: found[next(position) % len(found)], counter), f"essays, {kind}"
        rng = random.Random(f"{env.seed}/niah-words")
        return Haystack(lambda: _sentence(rng), counter), "words"


def _last(haystack: Haystack, counter: Counter, length: int, start: int) -> int:
    """Up to which sentence a text of `length` tokens goes that begins with sentence `start`."""
    empty, _ = _prompt(haystack, start, start, 0)
    room = length - NEW_TOKENS - counter.exact(empty, "")
    if room < 0:
        raise UsageError(
            f"niah: length {length} is too short: needle, question and template take "
            f"{counter.exact(empty, '')} tokens and the answer {NEW_TOKENS}"
        )
    end = haystack.after(start, room)
    if length > EXACT:
        # The whole is not tokenised at once: that takes a gigabyte for a few million tokens.
        while end > start:
            counted = counter.blocks(f" {haystack.text(start, end)}") + SPARE
            if counted <= room:
                break
            end = min(end - 1, haystack.after(start, haystack.tokens(start, end) * room / counted))
    return end


def _prompt(haystack: Haystack, start: int, end: int, depth: float) -> tuple[Prompt, int]:
    """The prompt with sentences `start` to `end`, and the characters of its context before the needle."""
    tokens = haystack.tokens(start, end) if end > start else 0
    middle = end if depth == 100 else min(end, haystack.after(start, tokens * depth / 100))
    before, after = haystack.text(start, middle), haystack.text(middle, end)
    context = f"{before}\n{NEEDLE}\n{after}"
    return Prompt(HEAD, context, TAIL.format(question=QUESTION), QUESTION), len(before) + 1


def _sentence(rng: random.Random) -> str:
    """A sentence of four random words that tells nothing."""
    adjectives, nouns = sources.word_list("adjective"), sources.word_list("noun")
    first, second = rng.choice(adjectives), rng.choice(nouns)
    return f"The {first} {second} is near the {rng.choice(adjectives)} {rng.choice(nouns)}."


def _bag(text: str) -> set[str]:
    """The words of a text, in lower case and without punctuation around them."""
    return {word for raw in text.lower().split() if (word := raw.strip(".,;:!?\"'()[]*“”‘’"))}
