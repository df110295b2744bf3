"""Stories: bAbI's own, read from its files, or three kinds like them, made here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

PEOPLE = ("Mary", "John", "Daniel", "Sandra")
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
THINGS = ("apple", "football", "milk")
GOES = ("moved to", "went to", "journeyed to", "travelled to", "went back to")
TAKES = ("got", "grabbed", "picked up", "took")
OWN = ("qa1", "qa2", "qa3")
"""Tasks whose stories can be made here."""
EVENTS = {"qa1": 6, "qa2": 14, "qa3": 40}


@dataclass(frozen=True)
class Story:
    """Facts in their order, a question about them, and its answer; `support` are the facts it rests on."""

    facts: tuple[str, ...]
    question: str
    answer: str
    support: tuple[str, ...] = ()


def parsed(lines: Sequence[str], name: str) -> list[Story]:
    """The questions of a bAbI file, each with the facts before it in its story; earlier questions are left out.

    Parameters
    ----------
    lines
        ``NUMBER fact`` or ``NUMBER question<tab>answer<tab>numbers of the facts``; a story begins at 1.
    name
        The file, for messages.

    Raises
    ------
    UsageError
        For a line of another form, named by its number.
    """
    stories: list[Story] = []
    facts: dict[int, str] = {}
    for at, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        number, _, said = line.rstrip("\r\n").partition(" ")
        if not number.isdecimal() or not said:
            raise UsageError(f"{name}, line {at}: a line of bAbI begins with its number and a blank")
        if int(number) == 1:
            facts = {}
        if "\t" not in said:
            facts[int(number)] = said.strip()
            continue
        question, answer, *support = said.split("\t")
        rests = [int(n) for n in " ".join(support).split() if n.isdecimal()]
        if not answer or not set(rests) <= facts.keys():
            raise UsageError(f"{name}, line {at}: a question needs an answer, and numbers of facts before it")
        stories.append(Story(tuple(facts.values()), question, answer, tuple(facts[n] for n in rests)))
    return stories


def read(path: Path) -> list[Story]:
    """The questions of a bAbI file; raises UsageError if it cannot be read or holds none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    if not (found := parsed(lines, str(path))):
        raise UsageError(f"{path}: no questions in it")
    return found


def made(task: str, seed: str) -> Iterator[Story]:
    """Stories of our own in bAbI's manner, without end: one of `OWN`, the same for the same seed.

    People walk between places (qa1), take things along (qa2), and a thing's last place but one is asked (qa3).
    """
    index = 0
    while True:
        story = _walk(task, random.Random(f"{seed}/{index}"))
        index += 1
        if story is not None:
            yield story


def _walk(task: str, rng: random.Random) -> Story | None:
    """One story; None if nothing in it can be asked."""
    where: dict[str, str] = {}
    holds: dict[str, str] = {}
    been: dict[str, list[str]] = {thing: [] for thing in THINGS}
    facts: list[str] = []
    for _ in range(EVENTS[task]):
        person = rng.choice(PEOPLE)
        free = [thing for thing in THINGS if thing not in holds.values()]
        if task != "qa1" and person in where and person not in holds and free and rng.random() < 0.5:
            holds[person] = rng.choice(free)
            facts.append(f"{person} {rng.choice(TAKES)} the {holds[person]} there.")
        else:
            where[person] = rng.choice([place for place in PLACES if place != where.get(person)])
            facts.append(f"{person} {rng.choice(GOES)} the {where[person]}.")
        if (thing := holds.get(person)) and (not been[thing] or been[thing][-1] != where[person]):
            been[thing].append(where[person])
    if task == "qa1":
        person = rng.choice(list(where))
        return Story(tuple(facts), f"Where is {person}? ", where[person])
    moved = [thing for thing in THINGS if len(been[thing]) > 1 and been[thing].count(been[thing][-1]) == 1]
    if not moved:
        return None
    thing = rng.choice(moved)
    *_, before, last = been[thing]
    if task == "qa2":
        return Story(tuple(facts), f"Where is the {thing}? ", last)
    return Story(tuple(facts), f"Where was the {thing} before the {last}? ", before)
