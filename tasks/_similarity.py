"""How alike two strings are, always by the same matcher."""

from __future__ import annotations

from difflib import SequenceMatcher


def edit_ratio(first: str, second: str) -> int:
    """Similarity of two strings, 0..100: ``fuzzywuzzy.fuzz.ratio`` as it is without python-Levenshtein.

    fuzzywuzzy answers differently once python-Levenshtein can be imported: on LongBench's code sets by 2 to
    3 points on average. LongBench's requirements leave it out, so difflib's matcher (which from 200
    characters on ignores characters that are too frequent) is the official one, whatever is installed here.
    Equal strings are 100, also two empty ones; one empty string against a text is 0.
    """
    if first == second:
        return 100
    if not first or not second:
        return 0
    return round(100 * SequenceMatcher(None, first, second).ratio())
