"""Documents that a recipe reads: JSON lines, or a folder of text files, streamed; told apart by their content."""

from __future__ import annotations

import hashlib
import itertools
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .._util.json_rows import json_row
from ..errors import UsageError

SUFFIXES = (".txt", ".md")
"""Files of a folder that are documents."""
MOST_BYTES = 64_000_000
"""Of one document: it is in memory as a whole while it is cut."""
TITLE_CHARACTERS = 80

_BREAK = re.compile(r"[.!?][\"'”’)\]]*(?=\s)|\n")


@dataclass(frozen=True)
class Document:
    """A text, and what it is called; the title may be empty."""

    title: str
    text: str


class Documents:
    """Documents in a fixed order: lines of a file as they stand, or files of a folder by their paths.

    Parameters
    ----------
    path
        JSON lines with ``text`` (and perhaps ``title``), or a folder with text files, sub-folders included.
    name
        What the user gave it by, for what is said of it.

    Raises
    ------
    UsageError
        One line: nothing is there, or no document in it. What is wrong with a document is said as it is read.
    """

    def __init__(self, path: Path, name: str = "documents") -> None:
        self.path, self.name = path.expanduser(), name
        if not self.path.exists():
            raise UsageError(f"{name}={path}: no such file or folder")
        self.files = [self.path]
        self.lines = not self.path.is_dir()
        if not self.lines:
            self.files = sorted(
                p for p in self.path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES
            )
            if not self.files:
                raise UsageError(f"{name}={path}: no {' or '.join(SUFFIXES)} file in that folder")

    def __iter__(self) -> Iterator[Document]:
        """Every document, one in memory at a time."""
        found = 0
        for document, _ in self._read():
            found += 1
            yield document
        if not found:
            raise UsageError(f"{self.name}={self.path}: empty, there is no document in it")

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> Document:
        """The document of that number, from 0, read anew."""
        if not self.lines:
            return self._text(self.files[number])
        with self.path.open("rb") as file:
            file.seek(self.starts[number])
            return self._line(file.readline(), f"{self.path}, document {number + 1}")

    @cached_property
    def starts(self) -> array[int]:
        """Where each document begins: bytes, or for a folder the number of its file. Every document is checked."""
        found = array("q", (start for _, start in self._read()))
        if not found:
            raise UsageError(f"{self.name}={self.path}: empty, there is no document in it")
        return found

    @cached_property
    def sha256(self) -> str:
        """Of the contents, in order, in hex; of a folder the files' relative paths count too."""
        total = hashlib.sha256()
        for path in self.files:
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
            if self.lines:
                return content
            total.update(f"{path.relative_to(self.path).as_posix()} {content}\n".encode())
        return total.hexdigest()

    def _read(self) -> Iterator[tuple[Document, int]]:
        if not self.lines:
            for number, path in enumerate(self.files):
                yield self._text(path), number
            return
        begin = 0
        try:
            with self.path.open("rb") as file:
                for number in itertools.count(1):
                    line = file.readline(MOST_BYTES + 1)
                    if not line:
                        return
                    place = f"{self.path}, line {number}"
                    if len(line) > MOST_BYTES:
                        raise UsageError(_too_long(place, "a line of"))
                    if line.strip():
                        yield self._line(line, place), begin
                    begin += len(line)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be read ({error.strerror})") from None

    def _line(self, line: bytes, place: str) -> Document:
        try:
            value = json_row(_decoded(line, place))
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{place}: not a line of JSON ({error}); a text file belongs into a folder"
            ) from None
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise UsageError(f'{place}: no "text" in it')
        return _document(str(value.get("title") or ""), value["text"], place)

    def _text(self, path: Path) -> Document:
        try:
            if path.stat().st_size > MOST_BYTES:
                raise UsageError(_too_long(str(path), "a document of"))
            return _document(path.stem, _decoded(path.read_bytes(), str(path)), str(path))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def _too_long(place: str, what: str) -> str:
    return f"{place}: {what} more than {MOST_BYTES:,} bytes; cut it into several documents"


def _decoded(content: bytes, place: str) -> str:
    if b"\x00" in content:
        raise UsageError(f"{place}: binary, not text")
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        raise UsageError(f"{place}: not UTF-8 (latin-1, perhaps?); save it in that encoding") from None


def _document(title: str, text: str, place: str) -> Document:
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise UsageError(f"{place}: the document is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{place}: holds half of a surrogate pair, which is no character") from None
    return Document(" ".join(title.split())[:TITLE_CHARACTERS], text)


def cut(text: str, characters: int) -> list[str]:
    """A text in pieces of about equal length, none above `characters`, that joined give the text again.

    A piece ends where a sentence or line ends, if one does in its second half, else at a blank, else anywhere.
    """
    number = -(-len(text) // characters)
    pieces, begin = [], 0
    for left in range(number, 1, -1):
        goal = begin + -(-(len(text) - begin) // left)
        lowest = begin + (goal - begin) // 2
        ends = [m.end() for m in _BREAK.finditer(text, lowest, goal)]
        at = ends[-1] if ends else max(text.rfind(" ", lowest, goal), 0) or goal
        pieces.append(text[begin:at])
        begin = at
    pieces.append(text[begin:])
    return _split(pieces, characters)


def _split(pieces: list[str], characters: int) -> list[str]:
    """What was left over by early ends may have become too long; it is cut in turn."""
    found = []
    for piece in pieces:
        found += [piece] if len(piece) <= characters else cut(piece, characters)
    return [piece for piece in found if piece]
