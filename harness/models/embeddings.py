"""Embeddings of texts by a model of `sentence_transformers`, for retrieval; an optional package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .._util.hashing import file_sha256
from ..errors import NotInstalled, UsageError


class Embedder:
    """A model of sentence-transformers.

    Parameters
    ----------
    model
        Its name on the Hub, or a folder.
    option
        How the user names it, for messages: ``--embedder``.

    Raises
    ------
    NotInstalled
        If the package is not there.
    UsageError
        If there is no such model.
    """

    def __init__(self, model: str, option: str) -> None:
        library, folder = library_for(option), Path(model).expanduser()
        if model.startswith(("/", ".", "~")) and not folder.is_dir():
            raise UsageError(
                f"{option}={model}: no such folder; give a folder or the name of a model on the Hub"
            )
        try:
            self._model: Any = library.SentenceTransformer(str(folder if folder.is_dir() else model))
        except (OSError, ValueError, TypeError, ImportError, KeyError) as error:
            why = " ".join(str(error).split())[:300]
            raise UsageError(f"{option}={model}: no model of sentence-transformers ({why})") from None

    def encode(self, texts: Iterable[str]) -> Any:
        """``[texts, size]``, each of length 1."""
        return self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


def facts(model: str, option: str) -> dict[str, str]:
    """What decides embeddings: the package's version and the model, by its name or the content of its folder."""
    return {"sentence-transformers": library_for(option).__version__, "model": identity(model)}


def identity(model: str) -> str:
    """A model of the Hub by its name; one in a folder by the SHA-256 of all its files, wherever it lies."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return model
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def library_for(option: str) -> Any:
    """The package. Raises NotInstalled, with how to get it."""
    try:
        import sentence_transformers
    except ImportError:
        raise NotInstalled(
            f"{option} needs sentence-transformers: pip install 'long-context-harness[dense]'"
        ) from None
    return sentence_transformers
