"""Documents as items of a pool: cut into chunks, which are records that cost no generation."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from harness.contracts.draft import Part
from harness.contracts.recipe import Answer, Dropped, Items, Stage
from harness.errors import UsageError
from harness.synthesis.documents import Documents, cut

CHARACTERS = 4
"""Characters that stand for a token where texts are cut; the exact count comes from the pool."""
CHUNK = "chunk"


class Numbered:
    """Things of every document, numbered through.

    Parameters
    ----------
    counts
        How many each document has.
    """

    def __init__(self, counts: Iterable[int]) -> None:
        self.ends = array("q", accumulate(counts))

    def __len__(self) -> int:
        """How many there are in all documents."""
        return self.ends[-1] if self.ends else 0

    def of(self, document: int) -> range:
        """Numbers of a document's."""
        return range(self.ends[document - 1] if document else 0, self.ends[document])

    def document(self, number: int) -> int:
        """Which document one is of."""
        return bisect_right(self.ends, number)

    def upto(self, documents: int) -> int:
        """How many the first so many documents have."""
        return self.ends[min(documents, len(self.ends)) - 1]

    def groups(self, size: int) -> Numbered:
        """Neighbours of a document taken together, so many each."""
        return Numbered(-(-len(self.of(document)) // size) for document in range(len(self.ends)))

    def members(self, group: int, groups: Numbered, size: int) -> range:
        """What is in a group of `groups`; nothing beyond the last one."""
        if group >= len(groups):
            return range(0)
        document = groups.document(group)
        begin = self.of(document).start + (group - groups.of(document).start) * size
        return range(begin, min(begin + size, self.of(document).stop))


def read_documents(recipe: str, path: Path | None) -> Documents:
    """The documents of a recipe, by its option ``documents``. Raises UsageError if that was not given."""
    if path is None:
        raise UsageError(
            f'recipe {recipe}: give its documents, --set documents=FILE.jsonl (with "text") or a folder of texts'
        )
    return Documents(path)


class DocumentChunks:
    """The chunks of all documents, numbered through; at any time one document is in memory.

    Parameters
    ----------
    recipe
        Name of the recipe, for what is said of its option ``documents``.
    path
        As the user gave it; None is refused.
    tokens
        Most tokens of a chunk, at four characters each.
    """

    def __init__(self, recipe: str, path: Path | None, tokens: int) -> None:
        self.documents = read_documents(recipe, path)
        self.characters = tokens * CHARACTERS
        self._last: tuple[int, str, list[str]] = (-1, "", [])

    @cached_property
    def numbers(self) -> Numbered:
        """The chunks by document; one pass over all of them."""
        return Numbered(len(cut(document.text, self.characters)) for document in self.documents)

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self.numbers.ends)

    def of(self, document: int) -> range:
        """Numbers of a document's chunks."""
        return self.numbers.of(document)

    def stage(self, documents: int) -> Stage:
        """The chunks of the first so many documents: ``document``, ``title``, ``text``."""
        return Stage(CHUNK, self.numbers.upto(documents), 0, self.ask, no_answer, {"text": ""})

    def ask(self, index: int, pool: Items) -> dict[str, Any] | None:
        """The record of a chunk."""
        if index >= len(self.numbers):
            return None
        document = self.numbers.document(index)
        if self._last[0] != document:
            found = self.documents[document]
            self._last = document, found.title, cut(found.text, self.characters)
        _, title, pieces = self._last
        text = pieces[index - self.of(document).start]
        return {"document": document, "title": title, "text": text}

    def parts(self, document: int) -> tuple[Part, ...]:
        """The pieces a document is put together from in a sample."""
        return tuple(Part(None, (CHUNK, index, "text")) for index in self.of(document))

    def tokens(self, pool: Items, document: int) -> int:
        """Tokens of a document, its pieces each counted on its own."""
        return sum(pool.size(CHUNK, "text", index)[0] for index in self.of(document))


def text_within(pool: Items, chunk: int, tokens: int) -> str:
    """The text of a chunk, cut off where it has more than `tokens`: not every text has four characters a token."""
    text = str((pool.record(CHUNK, chunk) or {"text": ""})["text"])
    has = pool.size(CHUNK, "text", chunk)[0]
    return text.strip() if has <= tokens else text[: max(1, len(text) * tokens // has)].strip()


def no_answer(index: int, pool: Items, answer: Answer) -> dict[str, Any] | Dropped:
    """For stages that ask nothing, so that nothing can be judged."""
    raise AssertionError("a stage without requests was given an answer")
