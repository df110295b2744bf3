"""Finding documents for a query: an index over a collection, built once."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol

from harness._util.hashing import file_sha256
from harness._util.words import VERSION, search_words
from harness.errors import UsageError

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
        library, folder = _sentence_transformers(), Path(model).expanduser()
        try:
            self._model: Any = library.SentenceTransformer(str(folder if folder.is_dir() else model))
        except (OSError, ValueError, TypeError, ImportError, KeyError) as error:
            why = " ".join(str(error).split())[:300]
            raise UsageError(f"dense_model={model}: no model of sentence-transformers ({why})") from None
        self._rows = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)

    def search(self, query: str, most: int) -> list[int]:
        """By cosine, ties by number."""
        import numpy as np

        [row] = self._model.encode([query], normalize_embeddings=True, show_progress_bar=False)
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
        version = _sentence_transformers().__version__
        return {"kind": kind, "sentence-transformers": version, "model": model_identity(model)}
    return {"kind": kind}


def model_identity(model: str) -> str:
    """A model of the Hub by its name; one in a folder by the SHA-256 of all its files, wherever it lies."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _sentence_transformers() -> Any:
    try:
        import sentence_transformers
    except ImportError:
        raise UsageError(
            "retriever=dense needs sentence-transformers: pip install 'long-context-harness[dense]'"
        ) from None
    return sentence_transformers
