"""The eight needle tasks and variable tracking: short statements hidden in a text that says nothing."""

from __future__ import annotations

import random
import string
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise

from . import sentences, sources
from .drafts import Draft, Maker, shuffled, smaller_below
from .protocol import DEPTHS, NEEDLE, NIAH, NIAH_ONE, NOISE, VT, Needles

EXAMPLE_TOKENS = 500
"""Most tokens of vt's worked example."""


class Essays:
    """The essays as sentences, of which the first so many words can be had; repeated if they do not suffice.

    Parameters
    ----------
    words
        All words of the essays.
    splitter
        What ends sentences, see `sentences.split`. Punkt also ends one inside a word (``rate.But``).
    """

    def __init__(self, words: Sequence[str], splitter: sentences.Splitter) -> None:
        self.words, self.splitter = words, splitter
        self._text = " ".join(words)
        self._sentences = sentences.split(words, splitter)
        self._ends = _ends(self._text, self._sentences)
        self._word_ends = [length - 1 for length in accumulate(len(word) + 1 for word in words)]

    def first(self, count: int) -> list[str]:
        """The sentences of the first `count` words; the last may be cut."""
        copies, rest = divmod(count, len(self.words))
        cut = self._word_ends[rest - 1] if rest else 0
        if copies and self.splitter == "punkt":
            return self._across(copies, cut)
        whole = bisect_right(self._ends, cut)
        found = self._sentences * copies + self._sentences[:whole]
        begun = self._ends[whole - 1] if whole else 0
        if begun < cut:
            found.append(self._text[begun:cut].strip())
        return found

    @cached_property
    def _ends_twice(self) -> tuple[list[int], list[int]]:
        """Where sentences end in the text with a copy after it, and in a copy with one before and one after it."""
        size = len(self._text) + 1
        both = _ends(f"{self._text} {self._text}", sentences.split([*self.words] * 2, self.splitter))
        first = [end for end in both if end < size]
        border = [size - 1] * (size - 1 in first)
        return first, [end - size for end in both if size <= end < 2 * size - 1] + border

    def _across(self, copies: int, cut: int) -> list[str]:
        """The sentences of so many copies and of `cut` characters of another; one may reach over a border."""
        size = len(self._text) + 1
        text = f"{self._text} " * copies + self._text[:cut]
        last = len(text) - (cut == 0)
        first, later = self._ends_twice
        ends = [*first, *(end + size * copy for copy in range(1, copies + 1) for end in later)]
        places = [0, *ends[: bisect_left(ends, last)], last]
        return [text[start:end].strip() for start, end in pairwise(places)]


def _ends(text: str, found: Sequence[str]) -> list[int]:
    """The character at which each sentence ends: a sentence may end inside a word."""
    ends: list[int] = []
    for sentence in found:
        begun = text.index(sentence, ends[-1] if ends else 0)
        ends.append(begun + len(sentence))
    return ends


@lru_cache(maxsize=1)
def essays(words: tuple[str, ...], splitter: sentences.Splitter) -> Essays:
    """`Essays`, split once for all tasks."""
    return Essays(words, splitter)


class NeedleMaker(Maker):
    """`niah_*`. A unit is a word of the essays, a noise line, or a needle that nobody asks for.

    Parameters
    ----------
    spec
        What is hidden in what.
    seed, length
        The run's seed and the length asked for, in tokens.
    text
        The essays, for an essay haystack.
    """

    def __init__(self, spec: Needles, seed: int, length: int, text: Essays | None = None) -> None:
        self.spec, self.seed, self.text = spec, seed, text
        self.minimum = spec.keys * spec.values  # places for needles are drawn among the units
        self.increment = 500 if spec.haystack == "essay" else smaller_below(length, 25)

    def draw(self, units: int, rng: random.Random, index: int) -> Draft:
        spec = self.spec
        keys = [_random(spec.key, rng) for _ in range(spec.keys)]
        values = [[_random(spec.value, rng) for _ in range(spec.values)] for _ in keys]
        needles = [
            NEEDLE.format(kind=spec.value, key=key, value=value)
            for key, own in zip(keys, values)
            for value in own
        ]
        context = self._context(units, shuffled(needles, self.seed), rng)
        asked = rng.sample(range(spec.keys), spec.queries)
        answers = tuple(value for i in asked for value in values[i])
        one = len(answers) == 1
        prompt, prefix = (NIAH_ONE if one else NIAH).fill(
            context,
            kind=spec.value.removesuffix("s") if one else spec.value,
            query=_listed([keys[i] for i in asked]),
        )
        depths = [round(100 * context.find(value) / len(context)) for value in answers]
        return Draft(prompt, prefix, answers, {"depths": depths})

    def _context(self, units: int, needles: list[str], rng: random.Random) -> str:
        if self.spec.haystack == "essay":
            assert self.text is not None
            return _among_sentences(self.text.first(units), needles, rng)
        if self.spec.haystack == "noise":
            lines = [NOISE] * units
        else:
            spec = self.spec
            lines = [
                NEEDLE.format(kind=spec.value, key=_random(spec.key, rng), value=_random(spec.value, rng))
                for _ in range(units)
            ]
        places = sorted(rng.sample(range(units), len(needles)), reverse=True)
        for place, needle in zip(places, needles):
            lines.insert(place, needle)
        return "\n".join(lines)


def _among_sentences(text: list[str], needles: list[str], rng: random.Random) -> str:
    """Needles after given shares of the sentences; an empty stretch leaves its blank, as it does officially."""
    depths = rng.sample(DEPTHS, len(needles))
    places = [0, *sorted(int(len(text) * (depth / 100)) for depth in depths), len(text)]
    parts = []
    for number, (start, end) in enumerate(pairwise(places)):
        parts.append(" ".join(text[start:end]))
        parts += needles[number : number + 1]
    return " ".join(parts)


def _random(kind: str, rng: random.Random) -> str:
    """A seven-digit number, an ``adjective-noun``, or a version-4 UUID."""
    if kind == "numbers":
        return str(rng.randint(10**6, 10**7 - 1))
    if kind == "words":
        return f"{rng.choice(sources.word_list('adjective'))}-{rng.choice(sources.word_list('noun'))}"
    return random_uuid(rng)


def random_uuid(rng: random.Random) -> str:
    """A version-4 UUID drawn from `rng`."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _listed(keys: list[str]) -> str:
    """``a``, or ``a, b, and c``."""
    return f"{', '.join(keys[:-1])}, and {keys[-1]}" if len(keys) > 1 else keys[0]


class ChainMaker(Maker):
    """`vt`: one chain of four hops among noise lines, after a worked example. A unit is a noise line.

    The example's names and value are new for each sample, its lines and their places are not.

    Parameters
    ----------
    seed, length
        The run's seed and the length asked for, in tokens.
    example_units
        Noise lines of the example: as many as fit `EXAMPLE_TOKENS`.
    """

    HOPS = 4

    def __init__(self, seed: int, length: int, example_units: int) -> None:
        self.minimum = self.HOPS + 1
        self.increment = smaller_below(length, 10)
        self.example_units = example_units
        places = random.Random(f"{seed}/vt-example").sample(range(example_units), self.minimum)
        self._example_places = sorted(places)

    def draw(self, units: int, rng: random.Random, index: int) -> Draft:
        names, value = _names(5, self.HOPS + 1, rng), str(rng.randrange(10_000, 99_999))
        context = _chain(units, names, value, sorted(rng.sample(range(units), len(names))))
        example = self.example(rng)
        prompt, prefix = VT.fill(context, example, query=value, count=str(len(names)))
        return Draft(prompt, prefix, tuple(names), {"value": value})

    def example(self, rng: random.Random) -> str:
        """Question and answer, and the empty line that parts them from what follows."""
        names, value = _names(3, self.HOPS + 1, rng), str(rng.randrange(10_000, 99_999))
        context = _chain(self.example_units, names, value, self._example_places)
        prompt, prefix = VT.fill(context, query=value, count=str(len(names)))
        # The prefix ends in a blank and the official code adds another one.
        return f"{prompt.text}{prefix} {' '.join(names)}\n\n"


def _names(letters: int, count: int, rng: random.Random) -> list[str]:
    """Different names of capitals; not VAR, for that is what a line begins with."""
    found: list[str] = []
    while len(found) < count:
        name = "".join(rng.choices(string.ascii_uppercase, k=letters))
        if name not in found and name != "VAR":
            found.append(name)
    return found


def _chain(units: int, names: list[str], value: str, places: Sequence[int]) -> str:
    assignments = [f"VAR {names[0]} = {value}"]
    assignments += [
        f"VAR {name} = VAR {before} " for before, name in pairwise(names)
    ]  # the blank is official
    lines = [NOISE] * units
    for number, (place, assignment) in enumerate(zip(places, assignments)):
        lines.insert(place + number, assignment)
    return "\n".join(lines)
