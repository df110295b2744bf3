"""Rows that only a memory of the text before can answer: planted facts asked for, spans copied, text continued.

Ours, made for ``harness fit --objective distill``: the study behind `plugins/beacon/form.py` found that
next-token loss on running text hardly asks anything of a memory, while these targets do. The words are plain and
belong to no evaluation task: a test holds every template against the prompts of the tasks that ship.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

from harness import UsageError

NAMES = (
    "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karin Leo Maria Nils Olga Peter Rosa Simon Tara "
    "Viktor Wanda Yusuf Zoe Amir Bella Carlos Dora Emil Farah Goran Hana Ivan Julia Kofi Lena Mateo Nadia Omar "
    "Priya Quentin Ravi Sofia Tomas Ursula Vera Wei Ximena Yara Zoltan"
).split()
PLACES = (
    "attic barn cellar chapel garden harbour kitchen library market mill office stable tower workshop bakery "
    "bridge castle forest museum orchard school station theatre village"
).split()
COLOURS = "amber black blue brown green grey orange pink purple red silver violet white yellow".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
GOODS = "salt wool copper barley oil paper cotton timber honey glass tea iron silk wheat".split()

FACTS = (
    ("{a} counted {n} {b}s in the {p}.", "How many {b}s did {a} count? {a} counted", " {n}"),
    ("{a} left the {b} in the {p} that evening.", "Where did {a} leave the {b}? In the", " {p}"),
    ("The {b} that {a} bought was painted {k}.", "Which colour had the {b} of {a}? It was", " {k}"),
    ("In {y} the old {b} was sold to {a}.", "When was the {b} sold to {a}? In", " {y}"),
    (
        "Page {d} of the register names {a} as owner of the {b}.",
        "Which page names {a} as owner of the {b}? Page",
        " {d}",
    ),
    ("{a} calls the {b} by the name of {c}.", "How does {a} call the {b}? By the name of", " {c}"),
    ("It was {m} who gave {a} the {b}.", "Who gave {a} the {b}? It was", " {m}"),
    ("The parcel for {a} has the label {l}{d}.", "Which label has the parcel for {a}? It is", " {l}{d}"),
    ("Every {w}, {a} takes the {b} to the {p}.", "On which day does {a} take the {b} away? On", " {w}"),
    ("{a} paid {n} coins for a sack of {g}.", "What did {a} pay {n} coins for? For a sack of", " {g}"),
    ("The telephone of the {p} rings under {d}.", "Under what does the {p} ring? Under", " {d}"),
    ("Bus {n} stops at the {p}, says {a}.", "Which bus stops at the {p}? Bus", " {n}"),
    (
        "Whoever wants to open the {b} of {a} turns the dial to {d}.",
        "To what is the dial of the {b} of {a} turned? To",
        " {d}",
    ),
    ("{a} and {m} met beside the {b}.", "Whom did {a} meet beside the {b}?", " {m}"),
    ("The {p} keeps its {g} behind the {k} {b}.", "Behind what does the {p} keep its {g}? The {k}", " {b}"),
    ("For the {b} the ledger gives {d}.", "What does the ledger give for the {b}? It gives", " {d}"),
)
"""Each a sentence, a question with the beginning of its answer, and the rest of the answer."""

COPIED = ("The text says: {span}", "As it was written: {span}", "Once more: {span}")
_SENTENCE = re.compile(r"(?<=[.!?])\s")
_LEAST_COPIED, _MOST_COPIED, _CONTINUED = 12, 32, 24
HELD = 32_000_000
"""Characters of texts whose tokens are kept, so that a text that is drawn again is not tokenised again."""
_SLACK = 8  # tokens beyond whole windows: borders of what is joined may merge, and a window must be full


@dataclass(frozen=True)
class Fact:
    """Something to plant, and how it is asked for."""

    sentence: str
    question: str
    answer: str


def fact(rng: random.Random) -> Fact:
    """One made-up fact."""
    nouns = _nouns()
    a, m = rng.sample(NAMES, 2)
    b, c = rng.sample(nouns, 2)
    words = {
        "a": a,
        "m": m,
        "b": b,
        "c": c,
        "p": rng.choice(PLACES),
        "k": rng.choice(COLOURS),
        "w": rng.choice(DAYS),
        "g": rng.choice(GOODS),
        "n": rng.randrange(3, 990),
        "y": rng.randrange(1100, 1990),
        "d": rng.randrange(1000, 99999),
        "l": rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ"),
    }
    sentence, question, answer = rng.choice(FACTS)
    return Fact(sentence.format(**words), question.format(**words), answer.format(**words))


def rows(
    texts: Sequence[str],
    tokenizer: Any,
    count: int | None,
    *,
    seed: int = 42,
    interval: int = 256,
    sinks: int = 1,
    windows: Sequence[int] = (1, 1, 2, 4),
    facts: int = 2,
) -> Iterator[dict[str, Any]]:
    """So many rows (None: without end) ``{"prompt", "answer", "windows"}``, the same for the same arguments.

    The prompt is a piece of one of `texts` with facts put in between sentences; the answer continues the text,
    answers a question about each of some facts, and repeats a span of the prompt, in a random order.

    Parameters
    ----------
    tokenizer
        Of the model that will learn: prompts are measured in its tokens.
    interval, sinks
        Raw tokens condensed together, and those before that stay raw: a prompt fills whole windows and little
        more.
    windows
        What the number of windows of a prompt is drawn from.
    facts
        Facts for each window; at most four are asked for.

    Raises
    ------
    UsageError
        If none of the texts is long enough for the longest prompt.
    """
    rng = random.Random(seed)
    longest = sinks + max(windows) * interval + _SLACK + _CONTINUED
    for text, encoded in islice(long_texts(texts, tokenizer, longest, "context", rng), count):
        number = rng.choice(list(windows))
        size = sinks + number * interval + _SLACK
        yield {**_row(text, encoded, tokenizer, size, facts * number, rng), "windows": number}


def long_texts(
    texts: Sequence[str], tokenizer: Any, longest: int, what: str, rng: random.Random
) -> Iterator[tuple[str, Any]]:
    """Texts of more than `longest` tokens, drawn again and again, each with its tokens and their offsets.

    `texts` may read each one anew: `HELD` characters at most are kept with their tokens.

    Raises
    ------
    UsageError
        If there is none; the message says that a `what` needs so many tokens.
    """
    held: dict[int, tuple[str, Any]] = {}
    characters = 0
    usable = list(range(len(texts)))
    while usable:
        place = rng.choice(usable)
        if place not in held:
            text = texts[place]
            while held and characters + len(text) > HELD:
                characters -= len(held.pop(next(iter(held)))[0])
            characters += len(text)
            held[place] = text, tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        text, encoded = held[place]
        if len(encoded["input_ids"]) <= longest:
            usable.remove(place)
            characters -= len(held.pop(place)[0])
        else:
            yield text, encoded
    raise UsageError(f"no text has the {longest:,} tokens that a {what} needs; give longer texts")


def _row(
    text: str, encoded: Any, tokenizer: Any, size: int, facts: int, rng: random.Random
) -> dict[str, Any]:
    planted = [fact(rng) for _ in range(facts)]
    sizes = [len(tokenizer(f" {f.sentence}", add_special_tokens=False)["input_ids"]) for f in planted]
    while planted and sum(sizes) > size // 2:  # short windows, or a tokenizer of short tokens
        planted.pop(), sizes.pop()
    room = size - sum(sizes)
    offsets = encoded["offset_mapping"]
    begin = rng.randrange(len(offsets) - room - _CONTINUED)
    end = begin + room
    piece = text[offsets[begin][0] : offsets[end][0]]
    context = with_facts(piece, planted, rng)
    asked = rng.sample(planted, min(4, len(planted)))
    answers = [text[offsets[end][0] : offsets[end + _CONTINUED][0]].strip()]
    parts = [f"{f.question}{f.answer}" for f in asked]
    words = piece.split()
    length = min(len(words), rng.randint(_LEAST_COPIED, _MOST_COPIED))
    first = rng.randrange(len(words) - length + 1)
    parts.append(rng.choice(COPIED).format(span=" ".join(words[first : first + length])))
    rng.shuffle(parts)
    return {"prompt": context, "answer": "\n".join(answers + parts)}


def with_facts(piece: str, planted: Sequence[Fact], rng: random.Random) -> str:
    """A piece of text with the facts between sentences of the piece, or between words where it has too few."""
    borders = [m.start() for m in _SENTENCE.finditer(piece)]
    if len(borders) < len(planted):
        borders = [m.start() for m in re.finditer(r"\s", piece)]
    places = sorted(rng.choice(borders or [len(piece)]) for _ in planted)
    context, last = "", 0
    for border, one in zip(places, planted):
        context += f"{piece[last:border]} {one.sentence}"
        last = border
    return context + piece[last:]


@cache
def _nouns() -> list[str]:
    from wonderwords import RandomWord

    nouns = RandomWord().filter(include_categories=["noun"])
    return sorted(w for w in nouns if w.isalpha() and len(w) < 10)
