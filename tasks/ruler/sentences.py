"""Where sentences end in a text of words parted by single blanks: nltk's punkt, or rules that need no data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Literal

from harness.errors import UsageError

Splitter = Literal["punkt", "rules"]

_END = re.compile(r"[.!?][\"'”’)\]]*\Z")
_BEGINNING = re.compile(r"[\"'“‘(\[]*[A-Z0-9]")
_INITIALS = re.compile(r"(?:[A-Za-z]\.)+\Z")
_ABBREVIATIONS = frozenset(
    ("mr. mrs. ms. dr. prof. st. sr. jr. gen. rep. sen. gov. vs. etc. cf. al. no. vol. fig. inc. ltd. "
     "co. corp. dept. est. approx. jan. feb. mar. apr. jun. jul. aug. sep. sept. oct. nov. dec.").split()
)  # fmt: skip


@cache
def installed() -> Splitter:
    """``punkt`` if nltk and its data are here (nothing is fetched), else ``rules``."""
    return "rules" if _punkt() is None else "punkt"


def split(words: Sequence[str], splitter: Splitter) -> list[str]:
    """The sentences of a text of words parted by single blanks.

    ``punkt`` is the official splitter. ``rules`` ends a sentence after ``.``, ``!`` or ``?`` (closing quotes
    and brackets may follow) if the next word begins with a capital or a digit, unless the word is one of
    thirty common abbreviations or consists of initials ("J.", "U.S."). Punkt has learned its
    abbreviations from a corpus and knows words that often begin sentences, so it still ends one after "U.S."
    before "The"; where the two differ, a needle stands a sentence earlier or later, and nothing else changes.

    Raises
    ------
    UsageError
        If `splitter` is ``punkt`` and nltk or its data are missing.
    """
    if splitter == "punkt":
        return _punkt_sentences(" ".join(words))
    places = [0, *ends(words)]
    return [" ".join(words[start:end]) for start, end in pairwise(places)]


def ends(words: Sequence[str]) -> list[int]:
    """How many words precede the end of each sentence by the rules; ascending, the last is ``len(words)``."""
    found = [
        number
        for number, (word, following) in enumerate(pairwise(words), start=1)
        if _END.search(word) and _BEGINNING.match(following) and not _abbreviated(word)
    ]
    return [*found, len(words)] if words else []


def _abbreviated(word: str) -> bool:
    bare = word.lstrip("\"'“‘([")
    return bare.lower() in _ABBREVIATIONS or _INITIALS.fullmatch(bare) is not None


def _punkt_sentences(text: str) -> list[str]:
    punkt = _punkt()
    if punkt is None:
        raise UsageError(
            "ruler: sentences=punkt needs nltk and its data: pip install 'long-context-harness[ruler]' and "
            "python -m nltk.downloader punkt_tab, or set ruler.sentences=rules"
        )
    return [str(sentence) for sentence in punkt(text)]


@cache
def _punkt() -> Any:
    """nltk's splitter of English, or None."""
    try:
        from nltk.tokenize import sent_tokenize

        sent_tokenize("A text. Another.")
    except (ImportError, LookupError, OSError):
        return None
    return sent_tokenize
