"""The training data of ``harness fit``: sources mixed, tokenised once, and kept on disk.

Tokens and labels are those of Activation Beacon (https://arxiv.org/abs/2401.03462), v1: a text is truncated
and all of it is learnt; of a prompt with an answer only the answer is learnt, the prompt losing its middle if
both together are too long. Ours: of a dialogue every answer is learnt, and exchanges from its end are left out
where it is too long; a row may say that its prompts are learnt too. Memory stays flat: files are read by lines,
and token ids are memory-mapped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._util.hashing import digest
from ..contracts.fit import Example
from ..errors import UsageError

if TYPE_CHECKING:
    pass

FORMAT = 3
"""Goes up whenever the same sources may give other examples: what was kept before is then made anew."""

IGNORED = -100
BATCH = 16  # rows tokenised at a time, in parallel; their text is in memory together
CHARACTERS = 4_000_000  # after so many a batch is full, however few rows they are


class Mixture:
    """Examples of all sources, shuffled; made by `build`. It is a `harness.contracts.fit.TrainingData`.

    Attributes
    ----------
    facts
        JSON-ready: ``sources`` (for each ``given``, ``sha256`` or ``revision``, ``lines`` in it, ``read``,
        ``taken`` of those, ``dropped`` by reason, ``examples``, ``tokens``, ``labelled``), ``examples``,
        ``tokens``, ``lengths`` (tokens: ``min``, ``median``, ``mean``, ``max``) and the settings.
    """

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder = folder
        try:
            self.facts: dict[str, Any] = json.loads((folder / "facts.json").read_text("utf-8"))
            self._offsets = np.load(folder / "offsets.npy", mmap_mode="r")
            self._learnt = np.load(folder / "learnt.npy", mmap_mode="r")
            self._spans = np.load(folder / "spans.npy", mmap_mode="r")
            self._source = np.load(folder / "source.npy", mmap_mode="r")
            self._order = np.load(folder / "order.npy", mmap_mode="r")
            self._tokens = np.memmap(folder / "tokens.bin", dtype="<i4", mode="r")
            whole = len(self._tokens) == self._offsets[-1] and len(self._order) == len(self._offsets) - 1
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"{folder}: damaged ({error}); delete it, it will be made again") from error
        told = self.facts.pop("files", None)
        if told is not None:
            whole = whole and all(digest(folder / name) == written for name, written in told.items())
        if not whole:
            raise UsageError(
                f"{folder}: damaged (its files are not as they were written); delete it, it will be made again"
            )

    @cached_property
    def lengths(self) -> Sequence[int]:
        """Tokens of each example, in the order of the examples."""
        sizes: list[int] = (self._offsets[1:] - self._offsets[:-1])[self._order].tolist()
        return sizes

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Example:
        """The example at `index`; from the end if negative. Raises IndexError beyond either end."""
        place = self._order[index]
        start, end = self._offsets[place], self._offsets[place + 1]
        ids: list[int] = self._tokens[start:end].tolist()
        labels = [IGNORED] * len(ids)
        first, last = self._spans[place], self._spans[place + 1]
        for start, end in self._learnt[2 * first : 2 * last].reshape(-1, 2).tolist():
            labels[start:end] = ids[start:end]
        return Example(ids, labels, int(self._source[place]))

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))
