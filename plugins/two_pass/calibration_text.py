"""The texts that natural attention is measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from harness import Prompt

if TYPE_CHECKING:
    from harness.contracts import TrainingData
    from harness.models import LanguageModel


TEXT_VERSION = 2
"""Changes whenever `paragraphs` or `calibrate` would give other numbers."""

KINDS = ("sentences", "repeated", "records", "talk")
"""What contexts are made of, one kind after the other. A calibration on plain sentences alone is too narrow:
text that repeats itself, as many a haystack does, spreads attention otherwise, and its z-scores saturate."""


_FORMS = (
    "The {a} {n} was kept beside the {m} near the {p}.",
    "Nobody in the {p} had ever seen such a {a} {n}.",
    "When the {n} was moved, the {m} stayed where it had always been.",
    "A {a} {m} is worth little without a {n}, as they say in the {p}.",
    "In the year {y} the {p} bought a {n} and sold its {a} {m}.",
    "The {m} of the {p} is {a}, and its {n} is older than {y}.",
)
_RECORDS = ("{n}; {a}; {p}; {y}", "{y} - {n} ({p}), {a}", "- {p}: {n}, {m}, {y}")
_TALK = (
    '"Where did you see the {n}?" - "In the {p}, beside the {m}."',
    '"The {m} is {a}," said the one. "No, the {n} is," said the other.',
    '"Since {y} nobody has asked me about the {n} of the {p}."',
    '"Is a {a} {n} worth a {m}?" - "Not in the {p}."',
)
_QUESTIONS = (
    "What is said about the {n}?",
    "Where was the {n} kept?",
    "What was told about this {n}?",
    "Which {m} belongs to the {n}?",
)


def sentences(seed: int) -> Iterator[str]:
    """Endless plain sentences about random nouns: text of no particular interest, the same for one seed."""
    adjectives, nouns = words()
    rng = np.random.default_rng([seed, TEXT_VERSION])
    while True:
        yield _fill(_FORMS[int(rng.integers(len(_FORMS)))], rng, adjectives, nouns)


def paragraphs(seed: int) -> Iterator[str]:
    """Endless paragraphs of one kind of text, the kind and the words decided by the seed."""
    adjectives, nouns = words()
    rng = np.random.default_rng([seed, TEXT_VERSION, 2])
    kind, source = KINDS[seed % len(KINDS)], sentences(seed)
    if kind == "repeated":
        piece = " ".join(next(source) for _ in range(int(rng.integers(2, 8))))
        while True:
            yield piece
    forms = {"records": _RECORDS, "talk": _TALK}.get(kind)
    while True:
        if forms is None:
            yield " ".join(next(source) for _ in range(50))
        else:
            form = forms[int(rng.integers(len(forms)))]
            yield _fill(form, rng, adjectives, nouns)


@cache
def text_fingerprint() -> str:
    """Hash of a piece of the text: it changes with the forms and with the installed word lists."""
    piece = [question(0)]
    for seed in range(len(KINDS)):
        source = paragraphs(seed)
        piece += [next(source) for _ in range(100)]
    return f"{TEXT_VERSION}-" + hashlib.sha256(json.dumps(piece).encode()).hexdigest()[:12]


def question(seed: int) -> str:
    """A question about a random noun, in the same style."""
    adjectives, nouns = words()
    rng = np.random.default_rng([seed, TEXT_VERSION, 1])
    return _fill(_QUESTIONS[int(rng.integers(len(_QUESTIONS)))], rng, adjectives, nouns)


@cache
def words() -> tuple[list[str], list[str]]:
    """Adjectives and nouns, sorted."""
    from wonderwords import RandomWord

    source = RandomWord()
    pick: Callable[[str], list[str]] = lambda kind: sorted(  # noqa: E731
        w for w in source.filter(include_categories=[kind]) if w.isalpha()
    )
    return pick("adjective"), pick("noun")


def _fill(form: str, rng: np.random.Generator, adjectives: Sequence[str], nouns: Sequence[str]) -> str:
    a, n, m, p = (words[int(rng.integers(len(words)))] for words in (adjectives, nouns, nouns, nouns))
    return form.format(a=a, n=n, m=m, p=p, y=rng.integers(1000, 2000))


class DataContexts:
    """Calibration text out of training data: its examples one after the other, in an order of each context's own."""

    def __init__(self, data: TrainingData, seed: int) -> None:
        self.data, self.seed = data, seed
        described = json.dumps([data.facts, seed], sort_keys=True, default=str)
        self.fingerprint = "data-" + hashlib.sha256(described.encode()).hexdigest()[:12]

    def text(self, model: LanguageModel, tokens: int, number: int) -> str:
        """At least `tokens` tokens of text for context `number`."""
        order = np.random.default_rng([self.seed, number, TEXT_VERSION]).permutation(len(self.data))
        parts: list[str] = []
        size = 0
        while size <= tokens:
            for index in order.tolist():
                ids = self.data[index].input_ids
                parts.append(str(model.tokenizer.decode(ids, skip_special_tokens=True)))
                size += len(ids)
                if size > tokens:
                    break
        return "\n\n".join(parts)


def context(
    model: LanguageModel, tokens: int, seed: int, source: DataContexts | None = None
) -> tuple[list[int], list[int]]:
    """Token ids of a context of at least `tokens`, as a user's turn, and of the question after it."""
    text = plain_text(model, tokens + 64, seed) if source is None else source.text(model, tokens + 64, seed)
    return asked_of(model, text, question(seed))


def asked_of(model: LanguageModel, text: str, question: str) -> tuple[list[int], list[int]]:
    """Token ids of a text, as a user's turn, and of a question after it."""
    from harness.prompts import render, tokenize

    raw = Prompt("Read the following text.\n\n", text, f"\n\nQuestion: {question}\nAnswer:")
    whole = tokenize(render(raw, model, chat=True), model)
    return list(whole.head_ids), list(whole.suffix_ids)


def plain_text(model: LanguageModel, tokens: int, seed: int) -> str:
    """Paragraphs of at least `tokens` tokens in all, a line each."""
    parts: list[str] = []
    endless, size = paragraphs(seed), 0
    while size <= tokens:
        part = next(endless)
        parts.append(part)
        size += len(model.tokenizer(part, add_special_tokens=False)["input_ids"])
    return "\n".join(parts)
