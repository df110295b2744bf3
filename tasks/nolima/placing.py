"""Where NoLiMa puts a needle into a book: at the end of a line, in a window that slides with the depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError


@dataclass(frozen=True)
class Placed:
    """A text with its needle: `token` tokens of the book go before the needle; `window` is where the text begins."""

    text: str
    token: int
    window: int


class Book:
    """A book as tokens, with the places where a needle may stand: the first token, and every one with a newline.

    Parameters
    ----------
    text
        The whole book.
    tokenizer
        The model's own; no special tokens are added.
    name
        For messages.
    """

    def __init__(self, text: str, tokenizer: Any, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.ids: list[int] = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        with_newline = {i for i in set(self.ids) if "\n" in tokenizer.decode([i])}
        self.places = [0, *(at for at, i in enumerate(self.ids) if at and i in with_newline)]

    def placed(self, needle: str, length: int, depth: float) -> Placed:
        """`length` tokens of the book with the needle `depth` (0..1) deep in them.

        The needle stands at the first place that is deep enough in the book; the window is laid so that it is at the
        depth asked for. So the text around it changes with the depth.

        Raises
        ------
        UsageError
            If the book is too short.
        """
        found = next((place for place in self.places if place / (length + 1) - depth >= 0), None)
        if found is None:
            raise self._short(length)
        return self._around(needle, found, length, depth)

    def placed_at(self, needle: str, length: int, depth: float, part: float) -> Placed:
        """The same with the needle at the line end nearest to `part` (0..1) of the whole book, at every depth."""
        goal = part * len(self.ids)
        fit = [place for place in self.places if length <= place <= len(self.ids) - length]
        if not fit:
            raise self._short(length)
        return self._around(needle, min(fit, key=lambda place: abs(place - goal)), length, depth)

    def _around(self, needle: str, place: int, length: int, depth: float) -> Placed:
        before = round(length * depth)
        start = place - before
        if start < 0 or start + length > len(self.ids):
            raise self._short(length)
        head = self.tokenizer.decode(self.ids[start : place + 1]).rpartition("\n")[0]
        tail = self.tokenizer.decode(self.ids[place + 1 : start + length])
        return Placed(f"{head} {needle}\n{tail}", before, start)

    def _short(self, length: int) -> UsageError:
        return UsageError(
            f"{self.name} has {len(self.ids):,} tokens, too few lines for a text of {length:,}; take a longer book"
        )
