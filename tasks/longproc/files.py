"""LongProc's files: the ``data`` folder of its repository, in ``--data-dir`` or fetched at a pinned commit."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness._util import network
from harness._util.files import cache_dir, cache_writes, write_whole
from harness.errors import Unavailable, UsageError

from .. import _files

COMMIT = "78e873ae395e42625fba7942bbb92713de08b2a6"
RAW = f"https://raw.githubusercontent.com/princeton-pli/LongProc/{COMMIT}/data"
EXAMPLES = "travel_planning_icl_examples.json"
PROMPTS = "prompts.yaml"


def file_of(kind: str, size: str) -> str:
    """The name of the file with the rows of a set, below the data folder."""
    return f"{kind}/travel_planning_all.json" if kind == "travel_planning" else f"{kind}/{kind}_{size}.json"


def cached(kind: str, sizes: tuple[str, ...], offline: bool) -> Path:
    """The cache's data folder, with all files of some sets of a kind; those it lacks are fetched.

    Raises
    ------
    Unavailable
        If one is not there and cannot be had.
    """
    folder = cache_dir() / "longproc" / COMMIT[:12]
    names = list(dict.fromkeys(file_of(kind, size) for size in sizes))
    more = [f"{kind}/{PROMPTS}", *([f"{kind}/{EXAMPLES}"] if kind == "travel_planning" else [])]
    for name in [*names, *more]:
        _had(folder, name, offline)
    if kind == "html_to_tsv":
        for name in names:
            for row, place in _files.read(folder / name):
                _had(folder, f"{kind}/{_inside(row, place)}", offline)
    return folder


def pages(rows: list[tuple[dict[str, Any], str]], folder: Path) -> Iterator[str]:
    """The page of each row; raises UsageError, with the row's place, for one that cannot be read."""
    for row, place in rows:
        path = folder / _inside(row, place)
        try:
            yield path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{place}: cannot read its page {path} ({error})") from None


def _inside(row: Mapping[str, Any], place: str) -> str:
    """The path of a row's page; raises UsageError if it leads out of the folder of the set."""
    name = Path(_files.text_of(row, "html_path", place))
    if name.is_absolute() or ".." in name.parts:
        raise UsageError(f"{place}: page {str(name)!r} lies outside the folder of the set")
    return str(name)


def _had(folder: Path, name: str, offline: bool) -> None:
    path, url = folder / name, f"{RAW}/{name}"
    if path.is_file():
        return
    otherwise = (
        "run 'harness data fetch longproc' where there is a network, or give --data-dir the folder 'data' of "
        "github.com/princeton-pli/LongProc"
    )
    if offline:
        raise Unavailable(f"longproc: {name} was not fetched before, and --offline; {otherwise}")
    try:
        if not network.answers(url):
            raise OSError("the host cannot be reached")
        with urllib.request.urlopen(url, timeout=60) as response:
            text = response.read().decode("utf-8")
    except (OSError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unavailable(f"longproc: cannot get {url} ({reason}); {otherwise}") from error
    with cache_writes():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
