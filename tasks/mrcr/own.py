"""Conversations of our own making in the manner of MRCR: alike requests, and the answer to one of them to be repeated.

No text is taken from either benchmark. Scores on these rows are like theirs in kind, and comparable with none of
them: answers are short, and their words come from a small list.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from harness.contracts import Prompt
from harness.errors import UsageError
from harness.prompts.conversation import Message, prompt_of

from .rows import Row

FORMATS = (
    "note",
    "rhyme",
    "riddle",
    "letter",
    "recipe",
    "speech",
    "diary entry",
    "advertisement",
    "fable",
    "review",
)
TOPICS = (
    "lanterns", "otters", "harbours", "clocks", "mushrooms", "kites", "glaciers", "beekeeping", "tunnels", "violins",
    "windmills", "pottery", "comets", "gardens", "ferries", "libraries", "thunder", "chess", "bakeries", "lighthouses",
)  # fmt: skip
OPENINGS = (
    "At dawn",
    "Last spring",
    "Every evening",
    "Far from town",
    "Before the rain",
    "On quiet days",
    "In the end",
)
ADJECTIVES = (
    "amber", "brittle", "crooked", "distant", "early", "faded", "gentle", "hollow", "idle", "jagged", "keen", "little",
    "muddy", "narrow", "old", "patient", "quiet", "rusty", "silver", "tall", "uneven", "velvet", "weary", "young",
)  # fmt: skip
NOUNS = (
    "baker", "captain", "doctor", "engineer", "farmer", "gardener", "hunter", "innkeeper", "judge", "keeper",
    "librarian", "miller", "neighbour", "officer", "painter", "queen", "ranger", "sailor", "teacher", "uncle", "weaver",
)  # fmt: skip
VERBS = (
    "admires", "borrows", "counts", "describes", "examines", "forgets", "guards", "hides", "imagines", "keeps", "loses",
    "measures", "names", "offers", "paints", "repairs", "sells", "trusts", "visits", "watches",
)  # fmt: skip
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
SENTENCES = (2, 4)
"""Fewest and most sentences of an answer."""


def own_rows(needles: int, length: int, seed: int, count: Callable[[Prompt], int]) -> Iterator[Row]:
    """Rows without end of one length; row i depends on seed, needles, length, tokenizer and i alone.

    Parameters
    ----------
    length
        Most tokens of the rendered prompt.
    count
        Tokens of a prompt as the model reads it.

    Raises
    ------
    UsageError
        If the needles alone are longer.
    """
    number = 0
    while True:
        rng = random.Random(f"mrcr-like {seed} {needles} {length} {number}")
        messages, answer, prefix, which = _conversation(rng, needles, length, count)
        prompt = prompt_of(messages)
        facts = {
            "n_needles": needles,
            "length": length,
            "desired": which + 1,
            "total_messages": len(messages),
        }
        yield Row(f"{length}-{number:04d}", prompt, answer, prefix, facts)
        number += 1


def _conversation(
    rng: random.Random, needles: int, length: int, count: Callable[[Prompt], int]
) -> tuple[list[Message], str, str, int]:
    """Turns, answer, hash, and which of the needles is wanted."""
    wanted = (rng.choice(FORMATS), rng.choice(TOPICS))
    which = rng.randrange(needles)
    prefix = "".join(rng.choices(ALPHABET, k=10))
    question = (
        f"Begin your answer with {prefix}, and right after it repeat, word for word, the {ORDINALS[which]} "
        f"{wanted[0]} about {wanted[1]} of this conversation. Write nothing else."
    )
    said: set[str] = set()
    asks = [_exchange(rng, wanted, said) for _ in range(needles)]
    answer = prefix + asks[which][1][1]
    fillers: list[list[Message]] = []
    places: list[float] = []

    def woven() -> list[Message]:
        slots = sorted(
            [*((p, 0, i) for i, p in enumerate(places)), *((p, 1, i) for i, p in enumerate(spots))]
        )
        turns = [turn for _, kind, i in slots for turn in (asks if kind else fillers)[i]]
        return [*turns, ("user", question)]

    spots = sorted(rng.random() for _ in range(needles))
    size = count(prompt_of(woven()))
    if size > length:
        raise UsageError(f"mrcr: {needles} needles alone take {size} tokens, more than the length {length}")
    per = max(1, size // (needles + 1))
    while True:
        room = max(1, (length - size) // (2 * per))
        for _ in range(room):
            fillers.append(_exchange(rng, _other(rng, wanted), said))
            places.append(rng.random())
        size = count(prompt_of(woven()))
        while size > length:
            fillers.pop()
            places.pop()
            size = count(prompt_of(woven()))
            if size <= length:
                return woven(), answer, prefix, which


def _other(rng: random.Random, wanted: tuple[str, str]) -> tuple[str, str]:
    """A format and a topic that are not both those of the needles."""
    while (found := (rng.choice(FORMATS), rng.choice(TOPICS))) == wanted:
        pass
    return found


def _exchange(rng: random.Random, about: tuple[str, str], said: set[str]) -> list[Message]:
    """A request and an answer that has not been given before."""
    while True:
        text = " ".join(_sentence(rng, about[1]) for _ in range(rng.randint(*SENTENCES)))
        if text not in said:
            said.add(text)
            return [("user", f"Please write a {about[0]} about {about[1]}."), ("assistant", text)]


def _sentence(rng: random.Random, topic: str) -> str:
    one, other = rng.sample(NOUNS, 2)
    return (
        f"{rng.choice(OPENINGS)} the {rng.choice(ADJECTIVES)} {one} {rng.choice(VERBS)} {topic} with the "
        f"{rng.choice(ADJECTIVES)} {other}."
    )
