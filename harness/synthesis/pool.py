"""The pool of a recipe on disk: `pool.json`, and one file of JSON lines a stage.

Items are generated in fixed batches, and a batch is appended and flushed to the disk as a whole. Opening a
stage again drops a torn last line and the batch it belongs to, so that what follows is generated in the very
batches it would have been generated in without the interruption.
"""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._util.files import write_whole, writes
from ..contracts.recipe import Stage
from ..errors import UsageError

POOL = "pool.json"
LOCK = ".lock"
NOT_ASKED = "not asked"
"""The reason of an item whose parent was dropped: no answer was wasted on it."""
REMEMBERED = 200_000
"""Short texts whose token count is remembered; a few ten megabytes."""


@dataclass
class StageIndex:
    """Where the records of a stage are, and how long: all that assembly keeps in memory.

    Attributes
    ----------
    offsets
        Byte at which each line starts.
    usable
        Indices of records that were not dropped, ascending.
    sizes
        For each measured field (tokens, characters) by index, -1 where there is none.
    dropped
        How many items for each reason.
    origins
        Of the others: how many for each value of the field ``origin``, if records have it.
    """

    offsets: array[int] = field(default_factory=lambda: array("q"))
    usable: array[int] = field(default_factory=lambda: array("q"))
    sizes: dict[str, tuple[array[int], array[int]]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)


class Pool:
    """Items of every stage, read one at a time from disk; see `harness.contracts.recipe.Items`.

    Parameters
    ----------
    folder
        Made by `open`.
    nouns
        In the order of the items.
    tokenizer
        Counts tokens.
    """

    def __init__(self, folder: Path, nouns: Sequence[str], tokenizer: Any) -> None:
        self.folder = folder
        self.nouns = nouns
        self.tokenizer = tokenizer
        self._counted: dict[str, int] = {}
        self._index: dict[str, StageIndex] = {}
        self._files: dict[str, Any] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder. A second process is refused; a lock never outlives its process."""
        with self._errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / LOCK).open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"another process is working on {self.folder}; wait for it or stop it"
                ) from None
            try:
                yield
            finally:
                for file in self._files.values():
                    file.close()

    def write_identity(self, identity: Mapping[str, Any]) -> None:
        """Say what the pool is made of and by whom."""
        with self._errors():
            write_whole(self.folder / POOL, json.dumps(identity, indent=2, ensure_ascii=False) + "\n")

    def path(self, stage: str) -> Path:
        return self.folder / f"{stage}.jsonl"

    def load(self, stage: Stage, batch: int) -> int:
        """Read what a stage has already, cut back to whole batches; returns how many items that is.

        Raises
        ------
        UsageError
            If a line other than the last is damaged: that is no interrupted write, so nothing is guessed.
        """
        index = StageIndex(sizes={name: (array("q"), array("q")) for name in stage.measured})
        self._index[stage.name] = index
        path = self.path(stage.name)
        whole = 0
        if path.is_file():
            with path.open("rb") as found:
                whole = self._scan(found, path, batch)
        with self._errors():
            file = self._files[stage.name] = path.open("a+b", buffering=0)
            file.truncate(whole)
            file.seek(0)
            start = 0
            for line in _lines(file, whole):
                self._add(index, json.loads(line), start)
                start += len(line)
        return len(index.offsets)

    def append(self, stage: Stage, records: Sequence[dict[str, Any]]) -> None:
        """Add a batch of records, in one write, and see it safely on disk; token counts are added here.

        A record is ``{"i": index, ...fields}`` or ``{"i": index, "dropped": reason}``.
        """
        texts = [
            before + str(record[name])
            for record in records
            for name, before in stage.measured.items()
            if name in record
        ]
        counts = iter(self._count(texts) if texts else ())
        for record in records:
            if found := {name: int(next(counts)) for name in stage.measured if name in record}:
                record["tokens"] = found
        lines = [json.dumps(r, ensure_ascii=False, allow_nan=False).encode() + b"\n" for r in records]
        file = self._files[stage.name]
        index = self._index[stage.name]
        with self._errors():
            start = file.seek(0, os.SEEK_END)
            block = b"".join(lines)
            while block:  # an unbuffered file may take less than it is given
                block = block[file.write(block) :]
            os.fsync(file.fileno())
        for record, line in zip(records, lines):
            self._add(index, record, start)
            start += len(line)

    def noun(self, index: int) -> str:
        return self.nouns[index % len(self.nouns)]

    def record(self, stage: str, index: int) -> dict[str, Any] | None:
        offsets, file = self._index[stage].offsets, self._files[stage]
        if index >= len(offsets):
            return None
        end = offsets[index + 1] if index + 1 < len(offsets) else os.fstat(file.fileno()).st_size
        found = dict(json.loads(os.pread(file.fileno(), end - offsets[index], offsets[index])))
        return None if "dropped" in found else found

    def usable(self, stage: str) -> Sequence[int]:
        return self._index[stage].usable

    def size(self, stage: str, field: str, index: int) -> tuple[int, int]:
        tokens, characters = self._index[stage].sizes[field]
        return tokens[index], characters[index]

    def dropped(self, stage: str) -> dict[str, int]:
        """How many items of a stage were dropped, for each reason; sorted by reason."""
        return dict(sorted(self._index[stage].dropped.items()))

    def origins(self, stage: str) -> dict[str, int]:
        """How many usable items of a stage there are of each origin; empty if they have none."""
        return dict(sorted(self._index[stage].origins.items()))

    def made(self, stage: str) -> int:
        """How many items of a stage there are, dropped ones included."""
        return len(self._index[stage].offsets)

    def _count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each, without special tokens."""
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def count(self, text: str) -> int:
        found = self._counted.get(text)
        if found is None:
            if len(self._counted) >= REMEMBERED:
                self._counted.clear()
            found = self._counted[text] = self._count([text])[0] if text else 0
        return found

    def _scan(self, file: Any, path: Path, batch: int) -> int:
        """Bytes up to the end of the last whole batch."""
        position = whole = 0
        for number, line in enumerate(file):
            try:
                good = line.endswith(b"\n") and json.loads(line)["i"] == number
            except (ValueError, KeyError, TypeError):
                good = False
            if not good:
                if file.readline():
                    raise UsageError(
                        f"{path} line {number + 1} is damaged; cut the file off before it to have the rest "
                        "made again"
                    )
                break
            position += len(line)
            if (number + 1) % batch == 0:
                whole = position
        return whole

    def _add(self, index: StageIndex, record: dict[str, Any], offset: int) -> None:
        number = len(index.offsets)
        index.offsets.append(offset)
        if "dropped" in record:
            index.dropped[record["dropped"]] += 1
        else:
            index.usable.append(number)
            if "origin" in record:
                index.origins[record["origin"]] += 1
        for name, (tokens, characters) in index.sizes.items():
            tokens.append(record.get("tokens", {}).get(name, -1))
            characters.append(len(record[name]) if name in record else -1)

    def _errors(self) -> AbstractContextManager[None]:
        return writes(
            self.folder,
            "make room or choose another folder. Finished items are kept: the same command resumes",
        )


def _lines(file: Any, size: int) -> Iterator[bytes]:
    """Lines of an unbuffered file, through a buffer of its own."""
    with open(file.fileno(), "rb", closefd=False) as buffered:
        left = size
        while left > 0:
            line = buffered.readline()
            left -= len(line)
            yield line


def read_identity(folder: Path) -> dict[str, Any] | None:
    """What `pool.json` says; None if there is none.

    Raises
    ------
    UsageError
        If it is damaged.
    """
    path = folder / POOL
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({error}); choose another --pool") from None
