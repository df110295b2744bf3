"""What tasks that read other people's files share: JSON lines checked one at a time, files from the hub."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness._util.json_rows import json_row
from harness._util.network import hub_answers, hub_out_of_reach
from harness.errors import Unavailable, UsageError


def objects(lines: Iterable[bytes], name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The JSON object of each line that is not blank, and its place for messages; one is in memory at a time.

    Parameters
    ----------
    lines
        The file's lines.
    name
        The file's name, for messages.

    Raises
    ------
    UsageError
        For a line that is no JSON object, or if the file cannot be read on.
    """
    for number, line in enumerate(_readable(lines, name), start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            value = json_row(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{place}: not JSON ({error})") from None
        if not isinstance(value, dict):
            raise UsageError(f"{place}: not a JSON object")
        if halved := [name for name, each in value.items() if _halved(line, [name, each])]:
            raise UsageError(f"{place}: field {halved[0]!a} holds half a character (a lone surrogate)")
        yield value, place


def _halved(line: bytes, value: Any) -> bool:
    """Whether something read from `line` holds a lone surrogate, which no file and no tokenizer takes."""
    if b"\\ud" not in line and b"\\uD" not in line:
        return False  # nothing else of UTF-8 becomes one
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def fingerprint(file: IO[bytes], name: str) -> str:
    """Sixteen hex digits over a whole file, whatever part of it is asked: what a run's `facts` say of its data.

    The file stands at its beginning before and after.
    """
    whole = hashlib.sha256()
    for line in _readable(file, name):
        whole.update(line)
    file.seek(0)
    return whole.hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """`fingerprint` of a file on the disk; raises UsageError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return fingerprint(file, str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _readable(lines: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The lines; what cannot be read, or is no longer what was packed, is an error that names the file."""
    try:
        yield from lines
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{name} is damaged or cannot be read ({error}); fetch it again") from error


class Twice:
    """Tells once, in one line, where a row stands again as it stood before: both are asked, and both count.

    Parameters
    ----------
    notify
        Who is told; None: nobody.
    """

    def __init__(self, notify: Callable[[str], None] | None) -> None:
        self._notify, self._places = notify, dict[bytes, str]()

    def see(self, value: dict[str, Any], place: str) -> None:
        """Look at a row as it stands in the file."""
        if self._notify is None:
            return
        key = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:16]
        if (before := self._places.setdefault(key, place)) != place:
            self._notify(f"{place}: the same row as {before}; both are asked, and both count")
            self._notify = None


def unique(row_id: str, seen: set[str]) -> str:
    """`row_id`, with the first free index appended if an earlier row has it already; added to `seen`."""
    candidate, index = row_id, 1
    while candidate in seen:
        candidate = f"{row_id}-{index}"
        index += 1
    seen.add(candidate)
    return candidate


def from_hub(
    family: str, repository: str, file: str, offline: bool, otherwise: str, revision: str | None = None
) -> Path:
    """A data file of the hub on this machine's disk, downloaded if it must be and may be.

    Parameters
    ----------
    family
        The task family, for messages.
    repository, file, revision
        Where it lies on the hub, and the commit (None: the newest); no loading script is run.
    offline
        If true, only what was downloaded before is looked at.
    otherwise
        What else the user can do: completes "run 'harness data fetch ...' where there is a network, or".

    Raises
    ------
    UsageError
        If it is not here and cannot be had.
    """
    from huggingface_hub import hf_hub_download

    with hub_access(family, f"{file} of {repository}", offline, otherwise) as alone:
        path = hf_hub_download(
            repository, file, repo_type="dataset", revision=revision, local_files_only=alone
        )
    return Path(path)


@contextmanager
def hub_access(family: str, what: str, offline: bool, otherwise: str) -> Iterator[bool]:
    """Around a download: gives whether only what was downloaded before is to be looked at.

    Parameters
    ----------
    family, what, otherwise
        For messages: the task family, what is wanted, and what else the user can do.
    offline
        If true, nothing is downloaded.

    Raises
    ------
    Unavailable
        If the block fails, in one line.
    """
    alone = offline or not hub_answers()
    try:
        yield alone
    except Exception as error:  # the hub's client and the network below it raise all kinds
        reason = f"{type(error).__name__}: {error}"
        if alone:
            reason = "not fetched before, and " + ("--offline" if offline else hub_out_of_reach())
        raise Unavailable(
            f"{family}: cannot get {what} ({' '.join(reason.split())}); run "
            f"'harness data fetch {family}' where there is a network, or {otherwise}"
        ) from error
