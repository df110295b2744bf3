"""Dialogues out of a pool of documents and questions: Algorithm 2 of the paper of the recipe `hierarchical`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.contracts.draft import Dialogue, Exchange, Part
from harness.contracts.recipe import Items, LengthRange, NoItems, TooShort

from .document_chunks import CHUNK, DocumentChunks
from .filling import TRIES, Deck
from .walks import DIVERSE, LEVELS, Questions

if TYPE_CHECKING:
    from .hierarchical_options import HierarchicalOptions

Pair = tuple[str, int]
"""Stage and index of a question with its answer."""


def hierarchical_needed(o: HierarchicalOptions) -> int:
    """Hierarchical pairs the first document may need: its own, and those of every time it is gone back to."""
    return o.hierarchical + o.follow_up * (o.most_documents - 1)


def diverse_needed(o: HierarchicalOptions) -> int:
    """Diverse pairs the first document may need: its own, and its share of those about all earlier ones."""
    return o.diverse + sum(-(-o.revisit // k) for k in range(1, o.most_documents))


@dataclass
class Shelf:
    """What is left to be asked about a document of a dialogue."""

    document: int
    hierarchical: list[Pair]
    diverse: list[Pair]

    @property
    def asked(self) -> bool:
        """Whether anything is asked about it."""
        return bool(self.hierarchical or self.diverse)


@dataclass
class Book:
    """A dialogue as it grows: exchanges, what is left of each document read, and what could not be asked."""

    exchanges: list[Exchange] = field(default_factory=list)
    shelves: list[Shelf] = field(default_factory=list)
    missing: int = 0
    tokens: int = 0


class Assembly:
    """Puts dialogues together; nothing is generated.

    Parameters
    ----------
    options
        How many questions there are at each place.
    chunks, questions
        Where the pieces are in the pool.
    pool
        The pool.
    rng
        Of every draw.
    documents
        How many of them questions were made of, from the first; the pool may hold chunks of further ones.
    """

    def __init__(
        self,
        options: HierarchicalOptions,
        chunks: DocumentChunks,
        questions: Questions,
        pool: Items,
        rng: random.Random,
        documents: int,
    ) -> None:
        self.options, self.chunks, self.questions, self.pool, self.rng = options, chunks, questions, pool, rng
        self.documents = documents

    def make(self, length: LengthRange | None) -> Dialogue:
        """As many documents as the length takes; without one, `most_documents`.

        Raises
        ------
        NoItems
            If no document has a question.
        TooShort
            If the shortest of the documents looked at is longer than the range.
        """
        deck = Deck(self.rng, range(self.documents), lambda document: not self._shelf(document).asked)
        book, least = Book(), 0
        target = self.rng.randint(length.low, length.high) if length else None
        while len(book.shelves) < self.options.most_documents:
            found, shortest = self._next(book, deck, target, length)
            least = min(least or shortest, shortest)
            if found is None:
                break
            book = found
        if not book.exchanges and not least:
            raise NoItems("no document with a question")
        if not book.exchanges:
            raise TooShort(least)
        return Dialogue("dialogue", book.exchanges, len(book.shelves), book.missing)

    def _next(
        self, book: Book, deck: Deck, target: int | None, length: LengthRange | None
    ) -> tuple[Book | None, int]:
        """The dialogue with one more document that fits, and the least tokens that one took."""
        least = 0
        for _ in range(TRIES):
            document = deck.draw()
            if document is None or deck.round:
                break
            more = self._read(book, document)
            least = min(least or more.tokens, more.tokens)
            # A dialogue below its range goes on up to the range's end, any other up to what was drawn for it.
            if (
                length is None
                or target is None
                or more.tokens <= (length.high if book.tokens < length.low else target)
            ):
                return more, least
        return None, least

    def _shelf(self, document: int) -> Shelf:
        pool, of = self.pool, self.questions.of
        walks = zip(*(of(level, document) for level in LEVELS))
        kinds = zip(*(of(kind, document) for kind in DIVERSE))
        found = [
            [
                (name, i)
                for group in groups
                for name, i in zip(names, group)
                if pool.size(name, "question", i)[0] > 0
            ]
            for names, groups in ((LEVELS, walks), (DIVERSE, kinds))
        ]
        return Shelf(document, found[0], found[1])

    def _read(self, book: Book, document: int) -> Book:
        """The dialogue after one more document: its own questions, those about earlier ones, and those gone back to."""
        o, rng = self.options, self.rng
        new = self._shelf(document)
        shelves = [Shelf(s.document, list(s.hierarchical), list(s.diverse)) for s in book.shelves] + [new]
        grown = Book(list(book.exchanges), shelves, book.missing, book.tokens)
        own = len(shelves)
        asked = [(own, pair) for pair in self._take(grown, new.hierarchical, o.hierarchical)]
        asked += [(own, pair) for pair in self._take(grown, new.diverse, o.diverse)]
        if o.order == "shuffled":
            rng.shuffle(asked)
        if own > 1:
            asked += self._about_earlier(grown)
            for number, shelf in enumerate(shelves[:-1], 1):
                if rng.random() < o.probability:
                    asked += [(number, pair) for pair in self._take(grown, shelf.hierarchical, o.follow_up)]
        for place, (number, pair) in enumerate(asked):
            exchange = self._exchange(number, pair, self._document(own, document) if place == 0 else ())
            grown.exchanges.append(exchange)
            grown.tokens += sum(self._tokens(p) for p in exchange.read + exchange.question + exchange.answer)
        return grown

    def _take(self, book: Book, pairs: list[Pair], most: int) -> list[Pair]:
        """The next so many pairs (or a number drawn from 1 to it), in their order; what is lacking is counted."""
        number = most if self.options.fixed or most < 1 else self.rng.randint(1, most)
        taken = pairs[:number]
        del pairs[:number]
        book.missing += number - len(taken)
        return taken

    def _about_earlier(self, book: Book) -> list[tuple[int, Pair]]:
        """Diverse pairs about the documents before the last one, taken from them in turn, fullest first in a tie."""
        most, earlier = self.options.revisit, list(enumerate(book.shelves[:-1], 1))
        number = most if self.options.fixed or most < 1 else self.rng.randint(1, most)
        found: list[tuple[int, Pair]] = []
        self.rng.shuffle(earlier)
        while len(found) < number and any(shelf.diverse for _, shelf in earlier):
            for place, shelf in earlier:
                if shelf.diverse and len(found) < number:
                    found.append((place, shelf.diverse.pop(0)))
        book.missing += number - len(found)
        return found

    def _document(self, number: int, document: int) -> tuple[Part, ...]:
        title = str((self.pool.record(CHUNK, self.chunks.of(document).start) or {}).get("title") or "")
        name = f"Document {number}" + (f' ("{title}")' if title else "")
        return (Part(f"{name} begins.\n"), *self.chunks.parts(document), Part(f"\n{name} ends.\n\n"))

    def _exchange(self, number: int, pair: Pair, read: tuple[Part, ...]) -> Exchange:
        kind, index = pair
        chunks: Sequence[int] = (self.pool.record(kind, index) or {}).get("chunks", ())
        return Exchange(
            kind,
            read,
            (Part(f"About document {number}: "), Part(None, (kind, index, "question"))),
            (Part(None, (kind, index, "answer")),),
            (number,),
            tuple((CHUNK, chunk, "text") for chunk in chunks),
        )

    def _tokens(self, part: Part) -> int:
        if part.source is not None:
            stage, index, name = part.source
            return self.pool.size(stage, name, index)[0]
        return self.pool.count((part.text or "").removesuffix(" "))
