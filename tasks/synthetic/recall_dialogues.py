"""Dialogues over a text: facts put into it asked for, passages repeated and the text continued, a turn each.

Ours, made for fitting `rope_scaling` on a machine that cannot hold the length: with PoSE the turns come to stand
at any distance from what they ask for. Facts are those of `recall`; the words belong to no evaluation task.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from .recall import Fact, fact, long_texts, with_facts

COPY = (
    "Which words come after these in the text?",
    "Repeat what the text says next:",
    "How does the passage go on that begins with these words?",
)
GO_ON = (
    "Write how the text goes on after its last words.",
    "The text breaks off at its end. Write what follows there.",
)
BEFORE = ("", "Here is a text.\n\n", "Read this first.\n\n")
_SPARE, _BEGINNING, _COPIED, _CONTINUED = 64, 8, 24, 48


def dialogues(
    texts: Sequence[str],
    tokenizer: Any,
    count: int | None,
    *,
    seed: int = 42,
    tokens: Sequence[int] = (512, 1024, 1536),
    questions: int = 5,
) -> Iterator[dict[str, Any]]:
    """So many rows (None: without end) ``{"messages": [...]}``, the same for the same arguments.

    The first turn of the user is a piece of one of `texts` with `questions` facts put in between its sentences, and
    a question. Asked for, in a random order, are each of the facts, the words after a span, and the text's end.

    Parameters
    ----------
    tokenizer
        Of the model that will learn: pieces are measured in its tokens.
    tokens
        What the tokens of a piece are drawn from, facts not counted.

    Raises
    ------
    UsageError
        If none of the texts is long enough for the longest piece.
    """
    rng = random.Random(seed)
    longest = max(tokens) + _SPARE
    for text, encoded in islice(long_texts(texts, tokenizer, longest, "piece", rng), count):
        offsets = encoded["offset_mapping"]
        size = rng.choice(list(tokens))
        begin = rng.randrange(len(offsets) - size - _SPARE)
        middle, end = begin + size, begin + size + _CONTINUED
        piece, rest = text[offsets[begin][0] : offsets[middle][0]], text[offsets[middle][0] : offsets[end][0]]
        yield {"messages": _turns(piece, rest.strip(), [fact(rng) for _ in range(questions)], rng)}


def _turns(piece: str, rest: str, facts: Sequence[Fact], rng: random.Random) -> list[dict[str, str]]:
    pairs = [_asked(one) for one in facts]
    words = piece.split()
    if len(words) > _BEGINNING + _COPIED:
        first = rng.randrange(len(words) - _BEGINNING - _COPIED)
        begun, copied = words[first : first + _BEGINNING], words[first + _BEGINNING :][:_COPIED]
        pairs.append((f"{rng.choice(COPY)} {' '.join(begun)}", " ".join(copied)))
    if rest:
        pairs.append((rng.choice(GO_ON), rest))
    rng.shuffle(pairs)
    text = with_facts(piece, facts, rng).strip()
    turns = []
    for number, (question, answer) in enumerate(pairs):
        said = question if number else f"{rng.choice(BEFORE)}{text}\n\n{question}"
        turns += [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
    return turns


def _asked(one: Fact) -> tuple[str, str]:
    """A fact's question, and its answer as a sentence of its own."""
    question, mark, begun = one.question.partition("?")
    return f"{question}{mark}", f"{begun}{one.answer}".strip() + "."
