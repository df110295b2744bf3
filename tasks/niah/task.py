"""One needle in a haystack, over a grid of lengths and depths: the heat map of long-context papers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from harness.contracts import Prompt, Sample, ScoredSample, Task, TaskEnvironment
from harness.errors import UsageError
from harness.options import Options

from .._grid import checked_depths, checked_lengths, in_turns, part_means, plain
from ..ruler import sentences, sources
from ..ruler.counting import Counter
from ..ruler.needles import essays
from .haystack import PLACES, SPARE, Haystack, Needle, bag_of_words, sentence

HEAD = "This is a very long story book: <book> "
TAIL = " </book>.\n Based on the content of the book, Question: {question}\nAnswer:"
NEW_TOKENS = 50
STEPS = 8
"""Without `lengths`: so many equal steps up to the model's window."""

EXACT = 131_072
"""Up to this length a sample is counted as the model will read it; beyond, in blocks, to save memory."""


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
        1,
        ge=1,
        le=10**6,
        description="samples for each length and depth; the second begins elsewhere in the haystack",
    )
    one_text: bool = Field(
        False,
        description="one text for each length, with a needle about another place at each depth, each asked for: "
        "the text is compressed once for all depths",
    )
    haystack: Literal["auto", "essays", "words"] = Field(
        "auto",
        description="PaulGrahamEssays.json of --data-dir, sentences made of random words, or the essays if "
        "they are there",
    )

    _lengths = field_validator("lengths")(checked_lengths)
    _depths = field_validator("depths")(checked_depths)

    @model_validator(mode="after")
    def _enough_places(self) -> NiahOptions:
        if self.one_text and len(self.depths) > len(PLACES):
            raise ValueError(f"one_text has needles for {len(PLACES)} depths, not {len(self.depths)}")
        return self


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

    ``one_text`` is a protocol of our own: a needle about another place at every depth of one text, each asked
    for. A method that can compress a text without the question reads it once for a whole row of the map.
    """

    Options = NiahOptions
    version: ClassVar[str] = "1"
    changelog: ClassVar[tuple[str, ...]] = ("1: first version",)
    metrics: ClassVar[tuple[str, ...]] = ("recall",)
    preset: str = "niah-fu2024@1"
    options: NiahOptions
    _data: str | None = None

    def samples(self, env: TaskEnvironment) -> Iterator[Sample]:
        """Yield the grid, length by length, then depth by depth; each is made only as it is taken.

        A limit takes lengths and depths in turns (see `in_turns`).

        Raises
        ------
        UsageError
            If a length is too short, or the essays are asked for and not there.
        """
        return self._grid(env)

    def facts(self) -> dict[str, Any]:
        """A fingerprint of the essays and what splits them, if they are the haystack: others are another run."""
        return {} if self._data is None else {"data": self._data, "sentences": sentences.installed()}

    def score(self, sample: Sample, prediction: str) -> dict[str, float]:
        """``recall``: share of the answer's distinct words that the prediction has, without case and
        surrounding punctuation; the best over the accepted answers, 0..1."""
        said = bag_of_words(prediction)
        shares = [len(words & said) / len(words) for r in sample.references if (words := bag_of_words(r))]
        return {"recall": max(shares, default=0.0)}

    def breakdown(self, scored: Sequence[ScoredSample]) -> dict[str, float]:
        """Mean recall of each length and of each depth, where there are several."""
        return part_means(scored, "recall", ("length", "depth"))

    def _grid(self, env: TaskEnvironment) -> Iterator[Sample]:
        counter = Counter(env)
        haystack, name = self._haystack(env, counter)
        window = env.context_length
        lengths = self.options.lengths or [window * step // STEPS for step in range(1, STEPS + 1)]
        needles = [Needle(*PLACES[0], depth) for depth in self.options.depths]
        texts = [[needle] for needle in needles]
        if self.options.one_text:
            texts = [[Needle(*where, depth) for where, depth in zip(PLACES, self.options.depths)]]
        sizes: dict[tuple[int, int], tuple[int, int]] = {}
        taken = in_turns(lengths, self.options.depths, self.options.trials, env.limit)
        for length, hidden, trial in product(lengths, texts, range(self.options.trials)):
            wanted = [asked for asked in hidden if (length, asked.depth, trial) in taken]
            if not wanted:
                continue
            if (length, trial) not in sizes:
                start = random.Random(f"{env.seed}/niah/{trial}").randrange(1000) if trial else 0
                sizes[length, trial] = start, _last(haystack, counter, length, start, hidden)
            span = _shortened(haystack, counter, length, *sizes[length, trial], hidden)
            for asked in wanted:
                prompt, place = _prompt(haystack, *span, hidden, asked)
                yield Sample(
                    id=f"len{length}-depth{plain(asked.depth)}-t{trial}",
                    prompt=prompt,
                    references=(asked.answer,),
                    new_tokens=NEW_TOKENS,
                    metadata={
                        "length": length,
                        "depth": asked.depth,
                        "trial": trial,
                        "haystack": name,
                        "needles": len(hidden),
                        "needle_position": place,
                    },
                )

    def _haystack(self, env: TaskEnvironment, counter: Counter) -> tuple[Haystack, str]:
        """The haystack, and what it is made of."""
        there = env.data_dir is not None and (env.data_dir / sources.ESSAYS).is_file()
        if self.options.haystack == "essays" or (self.options.haystack == "auto" and there):
            words = sources.essays(env)
            self._data = sources.whole(sources.ESSAYS, env)
            kind = sentences.installed()
            found = essays(words, kind).first(len(words))
            position = iter(range(2**62))
            return Haystack(lambda: found[next(position) % len(found)], counter), f"essays, {kind}"
        rng = random.Random(f"{env.seed}/niah-words")
        return Haystack(lambda: sentence(rng), counter), "words"


def _last(haystack: Haystack, counter: Counter, length: int, start: int, needles: Sequence[Needle]) -> int:
    """Up to which sentence a text of `length` tokens goes that begins with sentence `start`."""
    empty = max(counter.exact(_prompt(haystack, start, start, needles, asked)[0], "") for asked in needles)
    room = length - NEW_TOKENS - empty
    if room < 0:
        raise UsageError(
            f"niah: length {length} is too short: needle, question and template take {empty} tokens and the "
            f"answer {NEW_TOKENS}"
        )
    end = haystack.after(start, room)
    if length > EXACT:
        # The whole is not tokenised at once: that takes a gigabyte for a few million tokens.
        while end > start:
            counted = counter.blocks(f" {haystack.text(start, end)}") + SPARE * len(needles)
            if counted <= room:
                break
            end = min(end - 1, haystack.after(start, haystack.tokens(start, end) * room / counted))
    return end


def _shortened(
    haystack: Haystack, counter: Counter, length: int, start: int, end: int, needles: Sequence[Needle]
) -> tuple[int, int]:
    """The sentences `start` to `end`, less the few that the needles' places may cost."""
    for asked in needles if length <= EXACT else ():
        while counter.exact(_prompt(haystack, start, end, needles, asked)[0], "") + NEW_TOKENS > length:
            end -= 1
    return start, end


def _prompt(
    haystack: Haystack, start: int, end: int, needles: Sequence[Needle], asked: Needle
) -> tuple[Prompt, int]:
    """Sentences `start` to `end` with the needles among them, and the characters before the one asked for."""
    tokens = haystack.tokens(start, end) if end > start else 0
    parts: list[str] = []
    at, position = start, 0
    for needle in sorted(needles, key=lambda n: n.depth):
        middle = end if needle.depth == 100 else min(end, haystack.after(start, tokens * needle.depth / 100))
        parts.append(haystack.text(at, middle))
        if needle is asked:
            position = len("\n".join(parts)) + 1
        parts.append(needle.sentence)
        at = middle
    context = "\n".join([*parts, haystack.text(at, end)])
    return Prompt(HEAD, context, TAIL.format(question=asked.question), asked.question), position
