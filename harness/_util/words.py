"""The words of a text as a search engine indexes them, in scripts with blanks between words and without."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import pairwise

VERSION = "nfkc-bigrams-1"
"""Goes up whenever other words may come out: it is part of the identity of what is ranked by them."""

# Scripts in which words stand side by side; Korean's blanks part phrases whose endings change.
_JOINED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Yi}"
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー"
)
_PART = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{_JOINED}]]"
_WORD = rf"(?V1)(?P<joined>[[{_JOINED}]&&[\p{{L}}\p{{M}}\p{{N}}]]\p{{M}}*)+|{_PART}+(?:['’]{_PART}+)*"


def search_words(text: str) -> list[str]:
    """Words without regard to case and form (NFKC), punctuation left out.

    Where words stand side by side without blanks (Chinese, Japanese, Thai), and in Korean, each pair of neighbouring
    characters counts as a word, as in Lucene's ``CJKBigramFilter``: no dictionary is needed, and every word of two
    characters or more is found by its pairs. A character is one with its marks (a grapheme).
    """
    return list(_found(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())))


def _found(text: str) -> Iterator[str]:
    import regex

    for match in regex.finditer(_WORD, text):
        if match["joined"] is None:
            yield match[0]
            continue
        characters = regex.findall(r"\X", match[0])
        if len(characters) == 1:
            yield characters[0]
        for pair in pairwise(characters):
            yield "".join(pair)
