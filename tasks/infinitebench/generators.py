"""The three tasks that are made here as ``data/construct_synthetic_dataset.py`` makes them, at any length.

Unlike there, a sample depends on seed, task, length and its own number alone, and the depths come in an order
that spreads the first few over the whole text.
"""

from __future__ import annotations

import json
import random
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from harness.contracts import Prompt

from ..passkey import FILLER
from ..ruler.drafts import Draft, Maker
from ..ruler.needles import random_uuid

Render = Callable[[str, str], Prompt]
"""A preset's template: from context and question to a prompt."""


class PlacedMaker(Maker):
    """Hides one fact at the depth that belongs to a sample's number.

    Parameters
    ----------
    render
        Makes the prompt.

    Attributes
    ----------
    places
        How many depths there are. The last of a needle's is the end, the last of a pair's the pair before it.
    stride
        Steps between the depths of successive samples; without a common divisor with `places`, and near
        0.618 of them, so that any first few samples are spread evenly.
    """

    increment = 1
    places: int
    stride: int

    def __init__(self, render: Render) -> None:
        self.render = render

    def draw(self, units: int, rng: random.Random, index: int) -> Draft:
        """Question number `index` in a text of `units` noise lines or pairs."""
        slot = index * self.stride % self.places
        context, question, answer, place = self.hide(units, slot, rng)
        facts = {"depth": round(100 * self.depth(slot), 1), "needle_position": place}
        return Draft(self.render(context, question), "", (answer,), facts)

    @abstractmethod
    def depth(self, slot: int) -> float:
        """The share of the text, 0..1, that goes before the fact."""

    @abstractmethod
    def hide(self, units: int, slot: int, rng: random.Random) -> tuple[str, str, str, int]:
        """Context, question, answer, and the characters of the context before the fact."""


class NeedleLine(PlacedMaker):
    """A line with digits among noise lines, after 0/58, 1/58 ... 58/58 of them.

    Parameters
    ----------
    render
        Makes the prompt.
    name
        What the digits are called.
    draw_digits
        Draws them; they may begin with zeros.
    """

    places, stride = 59, 36

    def __init__(self, render: Render, name: str, draw_digits: Callable[[random.Random], str]) -> None:
        super().__init__(render)
        self.name, self.draw_digits = name, draw_digits

    def depth(self, slot: int) -> float:
        return slot / (self.places - 1)

    def hide(self, units: int, slot: int, rng: random.Random) -> tuple[str, str, str, int]:
        before = units * slot // (self.places - 1)
        digits = self.draw_digits(rng)
        noise = f"{FILLER}\n"
        needle = f"The {self.name} is {digits}. Remember it. {digits} is the {self.name}.\n"
        context = noise * before + needle + noise * (units - before)
        return context, f"What is the {self.name}?", digits, len(noise) * before


class Pairs(PlacedMaker):
    """A JSON object of pairs of UUIDs, asked for the value after 0/500, 1/500 ... 499/500 of them."""

    places, stride = 500, 309

    def depth(self, slot: int) -> float:
        return slot / self.places

    def hide(self, units: int, slot: int, rng: random.Random) -> tuple[str, str, str, int]:
        pairs = [(random_uuid(rng), random_uuid(rng)) for _ in range(units)]
        key, value = pairs[units * slot // self.places]
        context = f"JSON data:\n{json.dumps(dict(pairs))}"
        question = f'\nKey: "{key}"\nThe value associated with the specified key is: '
        return context, question, value, context.index(f'"{key}"')


@dataclass(frozen=True)
class Generated:
    """A task that is made here: its maker, the official number of units, the official number of samples."""

    maker: Callable[[Render], PlacedMaker]
    units: int
    samples: int


def five_digits(rng: random.Random) -> str:
    """Five digits, each of ten."""
    return "".join(str(rng.randint(0, 9)) for _ in range(5))


def repeated_digits(rng: random.Random) -> str:
    """Ten digits: five, and five times one that is there already beside itself."""
    digits = list(five_digits(rng))
    for _ in range(5):
        place = rng.randrange(len(digits))
        digits.insert(place, digits[place])
    return "".join(digits)


GENERATED: dict[str, Generated] = {
    "passkey": Generated(lambda render: NeedleLine(render, "pass key", five_digits), 5220, 590),
    "number_string": Generated(
        lambda render: NeedleLine(render, "sequence of digits", repeated_digits), 5220, 590
    ),
    "kv_retrieval": Generated(Pairs, 2500, 500),
}
"""The paper counts 122.4K tokens a sample for the needles and 89.9K for the pairs, in GPT-4's tokens."""
