"""How answers of both MRCR are compared with the text asked for: by difflib, each in its own way."""

from __future__ import annotations

from difflib import SequenceMatcher

V2_HASH = 12
"""Characters of the hash that DeepMind's answers begin with."""


def openai_score(response: str, answer: str, prefix: str) -> float:
    """The card's grade, 0..1: 0 unless the response begins with the hash, else the ratio of what follows it.

    Nothing is stripped, so that a leading blank scores 0. difflib's `autojunk` is on, and the response is its first
    text: both make other numbers, and are the card's.
    """
    if not response.startswith(prefix):
        return 0.0
    return float(SequenceMatcher(None, response.removeprefix(prefix), answer.removeprefix(prefix)).ratio())


def v2_score(prediction: str, target: str) -> float:
    """DeepMind's grade, 0..1: what follows the last occurrence of the hash, anywhere, against the text asked for.

    Here the target is difflib's first text.
    """
    target, prediction = target.strip(), prediction.strip()
    if not prediction or len(target) < V2_HASH:
        return 0.0
    hashed, wanted = target[:V2_HASH], target[V2_HASH:].strip()
    place = prediction.rfind(hashed)
    if place < 0:
        return 0.0
    return float(SequenceMatcher(a=wanted, b=prediction[place + V2_HASH :].strip()).ratio())
