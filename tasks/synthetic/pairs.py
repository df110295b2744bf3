"""The judgement of questions and of pairs of texts in the experts recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.contracts.recipe import Answer, Dropped, Items

from .filters import content_words, pair, reply, words

_IMPLIES = re.compile(r"\bif\s+(.{4,160}?),\s*(?:then\s+)?(.{4,200}?)[.!\n]", re.IGNORECASE)
_ABOUT_FORM = re.compile(r"\b(?:if-then|if\W+then|sentences?|conditional|statement|logical)\b", re.IGNORECASE)
"""Small models like to talk about the form of an implication instead of writing one."""


def noun_of(pool: Items, family: str, index: int) -> str:
    """Nouns of pairs and programs come from the end of the list, where passages have none yet."""
    families = ("similar", "linked", "logic", "code")
    return pool.noun(-1 - (len(families) * index + families.index(family)))


def text_of(pool: Items, stage: str, index: int) -> str:
    """The field ``text`` of a record; empty if it was dropped."""
    return str((pool.record(stage, index) or {"text": ""})["text"])


def both_of(pool: Items, family: str, index: int) -> str:
    """The two texts of a pair, one after the other."""
    return "\n\n".join(text_of(pool, f"{family}_{side}", index) for side in "ab")


def paired(answer: Answer, passage: str) -> dict[str, Any] | Dropped:
    """The record of a question; its answer is empty if it has to be asked for."""
    found = pair(answer, passage)
    return found if isinstance(found, Dropped) else {"question": found[0], "answer": found[1]}


def answered(answer: Answer, asked: dict[str, Any] | None, passage: str) -> dict[str, Any] | Dropped:
    """The record of a question with the answer that was asked for."""
    question = str((asked or {"question": ""})["question"])
    found = reply(answer, question, passage)
    return found if isinstance(found, Dropped) else {"question": question, "answer": found}


def needs_both(pool: Items, family: str, index: int, found: Mapping[str, Any]) -> bool:
    """Whether question and answer together touch each of two passages; more than that is not checked."""
    said = content_words(f"{found['question']} {found['answer']}")
    return all(said & content_words(text_of(pool, f"{family}_{side}", index)) for side in "ab")


def fact_a(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
    """The record of the first fact, ``If A, then B.``; `start` is A and `end` is B.

    Where the model wrote a consequence and not the whole sentence, the rest is ours (``repaired``).
    """
    noun = noun_of(pool, "logic", index)
    found = _IMPLIES.search(answer.text + ("\n" if answer.ended else ""))
    if found is not None and not _ABOUT_FORM.search(found[0]):
        start, end, origin = found[1], found[2], "model"
    else:
        article = "" if noun.endswith("s") else "an " if noun[:1].lower() in "aeiou" else "a "
        start, end, origin = f"there is {article}{noun}", _consequence(answer), "repaired"
    start, end = (" ".join(part.split()).strip(" \"'") for part in (start, end))
    if not end:
        return Dropped("no implication" if answer.text.strip() else "empty")
    if not content_words(end) - content_words(start):
        return Dropped("circular")
    text = f"If {start}, then {end}."
    return {"noun": noun, "origin": origin, "start": start, "end": end, "text": text}


def fact_b(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
    """The record of the second fact. Its form is ours: it begins with the B of the first, in the same words."""
    first = pool.record("logic_a", index) or {}
    found = _IMPLIES.search(answer.text + ("\n" if answer.ended else ""))
    end = _consequence(answer) if found is None or _ABOUT_FORM.search(found[2]) else found[2]
    end = " ".join(end.split()).strip(" .,\"'")
    if not end:
        return Dropped("no implication" if answer.text.strip() else "empty")
    if not content_words(end) - content_words(first["start"]) - content_words(first["end"]):
        return Dropped("circular")
    return {"noun": first["noun"], "end": end, "text": f"If {first['end']}, then {end}."}


def fixed_question(index: int, pool: Items) -> dict[str, Any]:
    """What follows from two facts, asked and answered in a fixed form: for models that cannot ask it."""
    first, second = pool.record("logic_a", index) or {}, pool.record("logic_b", index) or {}
    end = str(second["end"])
    question = f"If {first['start']}, what follows from it in the end?"
    return {"question": question, "answer": f"{end[:1].upper()}{end[1:]}.", "origin": "fixed form"}


def _consequence(answer: Answer) -> str:
    """The first sentence of an answer, as the second half of an implication; empty if it cannot be one."""
    text = answer.text.strip().strip("\"'") + ("\n" if answer.ended else "")
    first = re.split(r"[.!?\n]", text)[0] if re.search(r"[.!?\n]", text) else ""
    first = re.sub(r"^.*\bthen\b\W*", "", first, flags=re.IGNORECASE).strip(" .,\"'")
    usable = 2 <= len(words(first)) <= 24 and not _ABOUT_FORM.search(first)
    return first if usable and not first.lower().startswith("if ") else ""
