"""What `harness.training.mixture` reads: specs of sources, and their lines as texts or as prompts with answers."""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .._util.hashing import file_sha256
from .._util.json_rows import json_row
from .._util.network import hub_answers, hub_out_of_reach
from ..errors import UsageError
from .rows import Row, parse_row

HUB = "hub:"
SHUFFLE_BUFFER = 10_000
"""Rows of a Hub data set that are in memory to be drawn from: a stream cannot be shuffled as a whole."""

_HUB_SPEC = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?:@([\w.%\[\]:-]+))?")
_FORMS = "SOURCE[:COUNT], where SOURCE is a .jsonl file, a folder with data.jsonl, or hub:owner/name[/config][@split]"


@dataclass(frozen=True)
class JsonLines:
    """A file of JSON lines. `count`: rows wanted, None for all."""

    given: str
    path: Path
    count: int | None

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) of the file. Raises UsageError if it cannot be read."""
        try:
            return file_sha256(self.path)
        except OSError as error:
            raise UsageError(f"{self.given}: cannot read {self.path} ({error.strerror})") from error

    @cached_property
    def offsets(self) -> array[int]:
        """Where each line that is not blank begins (bytes), with its number from 1: begin, number, begin, ...

        Every line is checked on the way, so that a broken one is found whether it will be drawn or not.

        Raises
        ------
        UsageError
            For the first line that is broken; if there are none, or fewer than `count`.
        """
        found = array("q")
        for begin, number, line in self._lines():
            self._row(line, number)
            found.extend((begin, number))
        lines = len(found) // 2
        if not lines:
            raise UsageError(f"{self.path}: empty, there is nothing to train on")
        if self.count is not None and self.count > lines:
            raise UsageError(f"{self.given}: {self.path} has only {lines:,} lines; ask for so many or fewer")
        return found

    @property
    def lines(self) -> int:
        """Lines that are not blank."""
        return len(self.offsets) // 2

    def rows(self, seed: int) -> Iterator[tuple[int, Row]]:
        """Line number and row: in file order, or in an order drawn from `seed` if only some are wanted."""
        order: Sequence[int] = range(self.lines)
        if self.count is not None and self.count < self.lines:
            shuffled = array("q", order)
            random.Random(f"{seed} {self.identity}").shuffle(shuffled)
            order = shuffled
        with self._open() as stream:
            for place in order:
                stream.seek(self.offsets[2 * place])
                number = self.offsets[2 * place + 1]
                yield number, self._row(stream.readline(), number)

    def check(self, lines: int = 10) -> None:
        """Look at the first lines. Raises UsageError as `offsets` does."""
        looked = 0
        for _, number, line in self._lines():
            self._row(line, number)
            looked += 1
            if looked == lines:
                return
        if not looked:
            raise UsageError(f"{self.path}: empty, there is nothing to train on")

    def _open(self) -> Any:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise UsageError(f"{self.given}: cannot read {self.path} ({error.strerror})") from error

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        begin = 0
        with self._open() as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield begin, number, line
                begin += len(line)

    def _row(self, line: bytes, number: int) -> Row:
        place = f"{self.path}, line {number}"
        try:
            value = json_row(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise UsageError(f"{place}: not UTF-8; save the file in that encoding") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{place}: not JSON ({error})") from None
        return parse_row(value, place)


@dataclass(frozen=True)
class HubRows:
    """A data set on the Hugging Face Hub, read as a stream. `count`: rows wanted, None for all."""

    given: str
    repository: str
    config: str | None
    split: str
    count: int | None

    @cached_property
    def identity(self) -> str:
        """The commit, asked of the Hub. Raises UsageError if it does not answer."""
        from huggingface_hub import HfApi

        try:
            if not hub_answers():
                raise OSError(hub_out_of_reach())
            return str(HfApi().dataset_info(self.repository).sha)
        except Exception as error:  # the client and the network below it raise all kinds
            raise self._failed(error) from error

    @property
    def lines(self) -> int | None:
        """Not known before the end."""
        return None

    def rows(self, seed: int) -> Iterator[tuple[int, Row]]:
        """Number and row; if only some are wanted, drawn by `seed` from a buffer that moves over the stream.

        Raises
        ------
        UsageError
            If the stream fails or ends before `count` rows, or a row is not as `parse_row` wants it.
        """
        from datasets import load_dataset

        number = 0
        try:
            stream = load_dataset(
                self.repository, self.config, split=self.split, streaming=True, revision=self.identity
            )
            if self.count is not None:
                stream = stream.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
            values = iter(stream)
        except UsageError:
            raise
        except Exception as error:
            raise self._failed(error) from error
        while True:
            try:
                value = next(values)
            except StopIteration:
                break
            except Exception as error:
                raise self._failed(error) from error
            number += 1
            yield number, parse_row(value, f"{self.given}, row {number}")
        if number == 0:
            raise UsageError(f"{self.given}: empty, there is nothing to train on")
        if self.count is not None and number < self.count:
            raise UsageError(f"{self.given}: the data set has only {number:,} rows; ask for so many or fewer")

    def check(self) -> None:
        """Nothing can be looked at without the network."""

    def _failed(self, error: Exception) -> UsageError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return UsageError(
            f"{self.given}: cannot be read from the Hub ({reason[:200]}); try again, or save it as JSON lines"
        )


Source = JsonLines | HubRows


def parse_spec(given: str) -> Source:
    """A source as the user wrote it; nothing is opened.

    Raises
    ------
    UsageError
        If it has none of the known forms, or nothing is there.
    """
    name, count = given, None
    head, colon, tail = given.rpartition(":")
    if colon and head and tail.isascii() and tail.isdigit() and not Path(given).exists():
        name, count = head, int(tail)
        if count == 0:
            raise UsageError(f"{given}: asks for 0 examples; ask for at least 1")
    if name.startswith(HUB):
        if (match := _HUB_SPEC.fullmatch(name)) is None:
            raise UsageError(f"{given}: not a source; give {_FORMS}")
        return HubRows(given, match[1], match[2], match[3] or "train", count)
    path = Path(name).expanduser()
    if name and path.is_dir():
        if not (path / "data.jsonl").is_file():
            raise UsageError(f"{given}: the folder {path} holds no data.jsonl")
        return JsonLines(given, path / "data.jsonl", count)
    if name and path.is_file():
        return JsonLines(given, path, count)
    if colon and head and Path(head).expanduser().exists():
        raise UsageError(f"{given}: {tail!r} is not a number of examples; give {_FORMS}")
    if path.suffix in (".jsonl", ".json") or name.endswith("/"):
        raise UsageError(f"{given}: no such file or folder")
    raise UsageError(f"{given or repr(given)}: no such file or folder; give {_FORMS}")


Progress = Callable[[int, int | None], None]
