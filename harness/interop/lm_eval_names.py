"""Names of lm-eval's tasks, by a look at its files: its own index of them takes many seconds to read."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ..errors import unknown_name

_IGNORED = frozenset(("__pycache__", ".ipynb_checkpoints"))
_NAMED = re.compile(rb"^(?:task|group|tag)[ \t]*:[ \t]*[\"']?([\w.+-]+)", re.MULTILINE)


def folder() -> Path | None:
    """lm-eval's folder of tasks; None if it is not installed. Nothing is imported."""
    spec = importlib.util.find_spec("lm_eval")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) / "tasks" if places else None


@cache
def _texts() -> tuple[tuple[Path, bytes], ...]:
    """Every file of lm-eval's folder that may hold a name: YAML, whatever it is called."""
    root = folder()
    found = sorted(root.rglob("*yaml")) if root else []
    return tuple((path, path.read_bytes()) for path in found if not _IGNORED & set(path.parts))


def check_name(name: str, others: Iterable[str] = ()) -> None:
    """Refuse a name that stands in none of lm-eval's files and is none of `others`. Raises UsageError."""
    known = set(others)
    if name in known:
        return
    word = re.compile(rb"(?<!\w)" + re.escape(name.encode()) + rb"(?!\w)")
    if _texts() and not any(word.search(text) for _, text in _texts()):
        known |= {found.decode() for _, text in _texts() for found in _NAMED.findall(text)}
        raise unknown_name("lm-eval task", name, sorted(known))


def folder_of(name: str) -> Path | None:
    """The folder in which a task or group is defined; None for a tag, or a name that stands in several files."""
    defined = re.compile(
        rb"^(task|group|tag)[ \t]*:[ \t]*[\"']?" + re.escape(name.encode()) + rb"[\"']?[ \t]*\r?$",
        re.MULTILINE,
    )
    places = [(path, match[1]) for path, text in _texts() for match in defined.finditer(text)]
    if len(places) != 1 or places[0][1] == b"tag":
        return None
    path = places[0][0]
    return path.parent if path.suffix == ".yaml" else None


def check_words(words: tuple[str, ...]) -> None:
    """Refuse a command line of lm-eval's whose ``--tasks`` names what is nowhere. Raises UsageError.

    Files, patterns, and names under an ``--include_path`` are for lm-eval to find.
    """
    if any(word.partition("=")[0] in ("--include_path", "--config", "-C") for word in words):
        return
    given: list[str] = []
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in ("--tasks", "-t"):
            given += [value] if equals else _values(words[place + 1 :])
    for name in (part.strip() for value in given for part in value.split(",")):
        if re.fullmatch(r"[\w.+-]+", name) and name != "list" and not Path(name).exists():
            check_name(name)


def _values(words: tuple[str, ...]) -> list[str]:
    """Words up to the next flag."""
    end = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return list(words[:end])
