"""Finding documents for a query: an index over a collection, built once."""

from __future__ import annotations

import random
from collections.abc import Iterable
from importlib import metadata
from typing import Any, Literal, Protocol

from harness._util.words import VERSION, search_words
from harness.models import embeddings

Kind = Literal["bm25", "dense", "random"]


class Retriever(Protocol):
    """Ranks the documents it was made from."""

    def search(self, query: str, most: int) -> list[int]:
        """Numbers of the documents that fit best, best first, so many at most; the same ones each time."""
        ...


class Bm25:
    """BM25 in Lucene's form with `bm25s`: scores lie in a sparse matrix, so that a query costs a few additions."""

    def __init__(self, texts: Iterable[str]) -> None:
        import bm25s
        from bm25s.tokenization import Tokenized

        vocabulary: dict[str, int] = {}
        ids = [
            [vocabulary.setdefault(word, len(vocabulary)) for word in search_words(text)]
            or [vocabulary.setdefault("", 0)]
            for text in texts
        ]
        self._words = set(vocabulary)
        self._index = bm25s.BM25()
        self._index.index(Tokenized(ids=ids, vocab=vocabulary), show_progress=False)
        self._size = len(ids)

    def search(self, query: str, most: int) -> list[int]:
        """By score, ties by number; documents without a word of the query are never found."""
        import numpy as np

        known = [word for word in search_words(query) if word in self._words]
        if not known:
            return []
        scores = self._index.get_scores(known)
        best = np.argsort(-scores, kind="stable")[:most] if self._size <= 10 * most else _best(scores, most)
        return [int(i) for i in best if scores[i] > 0]


def _best(scores: Any, most: int) -> Any:
    """As a stable sort would have them, without sorting all."""
    import numpy as np

    least = np.partition(scores, len(scores) - most)[len(scores) - most]
    found = np.nonzero(scores >= least)[0]
    return found[np.argsort(-scores[found], kind="stable")][:most]


class Dense:
    """By the cosine of embeddings that a model of `sentence_transformers` makes; they are in memory together."""

    def __init__(self, texts: Iterable[str], model: str) -> None:
        self._model = embeddings.Embedder(model, "dense_model")
        self._rows = self._model.encode(texts)

    def search(self, query: str, most: int) -> list[int]:
        """By cosine, ties by number."""
        import numpy as np

        [row] = self._model.encode([query])
        return [int(i) for i in np.argsort(-(self._rows @ row), kind="stable")[:most]]


class Random:
    """Documents at random: the control for what retrieval is worth."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, seed

    def search(self, query: str, most: int) -> list[int]:
        """Other ones for each query, the same for the same."""
        return random.Random(f"{self._seed}-{query}").sample(range(self._size), min(most, self._size))


def make(kind: Kind, texts: Iterable[str], size: int, seed: int, model: str) -> Retriever:
    """An index over the texts."""
    if kind == "bm25":
        return Bm25(texts)
    return Dense(texts, model) if kind == "dense" else Random(size, seed)


def facts(kind: Kind, model: str) -> dict[str, str]:
    """What decides a ranking: the kind, its library's version, a dense one's model. Raises UsageError without one."""
    if kind == "bm25":
        return {"kind": kind, "bm25s": metadata.version("bm25s"), "words": VERSION}
    if kind == "dense":
        return {"kind": kind, **embeddings.facts(model, "retriever=dense")}
    return {"kind": kind}
