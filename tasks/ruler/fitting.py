"""How many units go into a text of a given length, and whether a sample fits: NVIDIA's search, counted faster.

The official generators draw a text for every step of a binary search and tokenise it whole, then tokenise
every sample whole. Here texts are counted word by word (`Counter`), and by the environment's own count only
where that decides: to calibrate, and for a sample within the calibration's margin of its limit.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from harness.errors import UsageError

from ..passkey import most_that_fit
from .counting import Calibration, Counter
from .drafts import Draft, Maker

ALWAYS_EXACT = 32_768
"""Up to this length every sample is counted exactly; beyond, words are counted where that is enough."""

CALIBRATION = ("size", "calibration 1", "calibration 2", "calibration 3")
"""Texts on which both ways of counting are compared, for each task and length."""


@dataclass(frozen=True)
class Size:
    """What a search found: so many units, and how far word-wise counts can be trusted at that size."""

    units: int
    calibration: Calibration


class Fitter:
    """Samples of one task at one length.

    Parameters
    ----------
    name
        The task's full name, for messages and for the source of randomness.
    maker
        Draws texts.
    counter
        Counts them.
    length, new_tokens
        Prompt as the model reads it plus answer may take `length` tokens, `new_tokens` of them the answer.
    """

    def __init__(self, name: str, maker: Maker, counter: Counter, length: int, new_tokens: int) -> None:
        self.name, self.maker, self.counter = name, maker, counter
        self.length, self.new_tokens = length, new_tokens
        self.room = length - new_tokens
        self._size: Size | None = None

    @property
    def size(self) -> Size:
        """The largest text that fits; searched on first use.

        The search looks at one text of its own: it is the same whichever samples are asked for.

        Raises
        ------
        UsageError
            If not even the smallest text fits.
        """
        if self._size is None:
            self._size = self._search()
        return self._size

    def sample(self, index: int) -> Draft:
        """Sample number `index`: the size's units, fewer by the official increment until it fits.

        Raises
        ------
        UsageError
            If not even the smallest text fits.
        """
        units = self.size.units
        while True:
            draft = self._draw(units, str(index), index)
            if self._fits(draft):
                return draft
            if units <= self.maker.minimum:
                raise self._too_short(self._exact(draft))
            units = max(self.maker.minimum, units - self.maker.increment)

    def _draw(self, units: int, purpose: str, index: int = 0) -> Draft:
        # A generator of its own for each text: no sample depends on another one, or on how often it was drawn.
        rng = random.Random(f"{self.counter.env.seed}/{self.name}/{self.length}/{purpose}")
        return self.maker.draw(units, rng, index)

    def _exact(self, draft: Draft) -> int:
        return self.counter.exact(draft.prompt, draft.answer_prefix)

    def _words(self, draft: Draft) -> int:
        return self.counter.prompt_words(draft.prompt, draft.answer_prefix)

    def _fits(self, draft: Draft) -> bool:
        if self.length > ALWAYS_EXACT:
            calibration = self.size.calibration
            about = self._words(draft) + calibration.offset
            margin = max(calibration.margin, self.maker.margin)
            if margin == 0 or abs(about - self.room) > margin:
                return about <= self.room
        return self._exact(draft) <= self.room

    def _search(self) -> Size:
        least = self.maker.minimum
        smallest = self._draw(least, "size")
        exact = self._exact(smallest)
        if exact > self.room:
            raise self._too_short(exact)
        calibration = self.counter.calibrate([(smallest.prompt, smallest.answer_prefix)])
        units = None
        for _ in range(4):  # the gap between the counts is that of the size it is used at after one round
            before, units = units, self._largest(calibration.offset)
            if units == before:
                break
            drafts = [self._draw(units, purpose) for purpose in CALIBRATION]
            calibration = self.counter.calibrate([(d.prompt, d.answer_prefix) for d in drafts])
        assert units is not None
        return Size(units, calibration)

    def _largest(self, offset: int) -> int:
        maker, budget, unit, apart = self.maker, self.room - offset, 1.0, 64

        def tokens(steps: int) -> int:
            units = maker.minimum + steps * maker.grid
            if maker.plateau is not None and units > maker.plateau and not plateau_fits():
                # Not drawn: that would take other data, which a text that fits does not need.
                return budget + int(unit + 1) * (units - maker.plateau)
            return self._words(self._draw(units, "size"))

        @cache
        def plateau_fits() -> bool:
            return self._words(self._draw(maker.plateau or 0, "size")) <= budget

        empty = tokens(0)
        unit = max(1.0, (tokens(apart) - empty) / apart)
        steps = most_that_fit(tokens, max(budget, empty), empty, unit)
        return maker.minimum + steps * maker.grid

    def _too_short(self, tokens: int) -> UsageError:
        return UsageError(
            f"{self.name}: length {self.length} is too short: its smallest text takes {tokens} tokens and "
            f"the answer {self.new_tokens}"
        )
