"""What small models write when they speak of the request itself: its words, given back."""

from __future__ import annotations

import re

from .filters import NGRAM, content_words, words

REASON = "about the request"
"""Why such a text is dropped, as the card counts it."""
_TO_THE_ASKER = frozenset("answer answers question questions i you your".split())
"""Words of a question that stand for the request or who made it, unless they are the passage's."""


class Echo:
    """The words of some requests, by which a text that gives them back is known.

    Parameters
    ----------
    requests
        What a generator is asked, with placeholders (``{text}``) where texts of documents go.
    natural
        A phrase of the requests that a good text may hold as well.
    """

    def __init__(self, *requests: str, natural: str = "") -> None:
        own = [re.sub(r"\{\w+\}", ". ", request) for request in requests]
        self.grams = frozenset(gram for text in own for gram in _grams(text)) - _grams(natural)
        self.words = frozenset(word for text in own for word in content_words(text))

    def in_text(self, text: str) -> bool:
        """Whether four words in a row of a request stand in a text."""
        return not self.grams.isdisjoint(_grams(text))

    def is_question(self, question: str, passage: str) -> bool:
        """Whether a question is about the request rather than about a passage.

        It is if it repeats the request; if nothing it asks for is of the passage once the request's own words are taken
        away ("What is this text about?"); or if it speaks of an answer, a question or the reader, and the passage does
        not ("What is a simple answer?").
        """
        if self.in_text(question) or (content_words(question) - self.words).isdisjoint(
            content_words(passage)
        ):
            return True
        return bool(_TO_THE_ASKER.intersection(words(question)).difference(words(passage)))


def _grams(text: str) -> frozenset[tuple[str, ...]]:
    """So many words in a row, wherever they stand in a text."""
    found = words(text)
    return frozenset(tuple(found[i : i + NGRAM]) for i in range(len(found) - NGRAM + 1))
