"""What RULER's texts are made of: word lists, essays, questions with documents; from a folder or fetched."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from harness._util import network
from harness._util.files import cache_dir, cache_writes, write_whole
from harness.contracts import TaskEnvironment
from harness.errors import Unavailable, UsageError

from .._rows import file_fingerprint

ESSAYS = "PaulGrahamEssays.json"
SQUAD = "squad.json"
HOTPOTQA = "hotpotqa.json"
ENGLISH_WORDS = "english_words.json"

HOSTED = {
    SQUAD: "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json",
    HOTPOTQA: "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json",
    ENGLISH_WORDS: "https://raw.githubusercontent.com/NVIDIA/RULER/main/scripts/data/synthetic/json/"
    "english_words.json",
}
"""Where the official download scripts get the files. The essays are collected page by page, by
`download_paulgraham_essay.py` of NVIDIA/RULER, and are hosted nowhere as one file."""


@dataclass(frozen=True)
class Question:
    """A question: its answers, and indices of its own documents and of others of the same article."""

    text: str
    answers: tuple[str, ...]
    own: tuple[int, ...]
    related: tuple[int, ...]


@dataclass(frozen=True)
class Questions:
    """Questions in the order of their file, and all its documents, sorted, each once."""

    questions: tuple[Question, ...]
    documents: tuple[str, ...]


@cache
def word_list(name: str) -> tuple[str, ...]:
    """The distinct words of one of wonderwords' lists (``noun``, ``adjective``, ``verb``), sorted."""
    text = resources.files("wonderwords.assets").joinpath(f"{name}list.txt").read_text("utf-8")
    return tuple(sorted({line.rstrip() for line in text.splitlines()}))


def wonderwords_version() -> str:
    """The installed version; other versions have other lists, and with them all keys change."""
    return metadata.version("wonderwords")


def essays(env: TaskEnvironment) -> tuple[str, ...]:
    """The essays as words, as `PaulGrahamEssays.json` holds them under ``text``.

    Raises
    ------
    UsageError
        Here and below: if the file is not to be had, or is not what it should be.
    """
    words: tuple[str, ...] = _read(ESSAYS, env)
    return words


def english_words(env: TaskEnvironment) -> tuple[str, ...]:
    """The longer list that the official cwe turns to where wonderwords' lists are too short."""
    words: tuple[str, ...] = _read(ENGLISH_WORDS, env)
    return words


def squad(env: TaskEnvironment) -> Questions:
    """SQuAD 2.0's development set without the questions that have no answer."""
    questions: Questions = _read(SQUAD, env)
    return questions


def hotpotqa(env: TaskEnvironment) -> Questions:
    """HotpotQA's development set with distractors."""
    questions: Questions = _read(HOTPOTQA, env)
    return questions


def fetch(offline: bool) -> Path:
    """Get every hosted file into the cache; the folder they are in.

    Raises
    ------
    UsageError
        If one is not there and cannot be had.
    """
    for name in HOSTED:
        _cached(name, offline)
    return _folder()


def whole(name: str, env: TaskEnvironment) -> str:
    """A fingerprint of one of the files, found or fetched as it is for the texts."""
    return file_fingerprint(_locate(name, env))


def _folder() -> Path:
    return cache_dir() / "ruler"


def _locate(name: str, env: TaskEnvironment) -> Path:
    """The file in ``--data-dir``, else in the cache, else fetched."""
    if env.data_dir is not None and (env.data_dir / name).is_file():
        return env.data_dir / name
    return _cached(name, env.offline)


def _cached(name: str, offline: bool) -> Path:
    path = _folder() / name
    if path.is_file():
        return path
    if name not in HOSTED:
        raise Unavailable(
            f"ruler: this task needs {name} in --data-dir: an object whose 'text' is the essays as one "
            "string, as download_paulgraham_essay.py of NVIDIA/RULER writes it"
        )
    if offline:
        raise Unavailable(
            f"ruler: this task needs {name}, which was not fetched before, and --offline; run "
            f"'harness data fetch ruler' where there is a network, or put it into --data-dir ({HOSTED[name]})"
        )
    try:
        if not network.answers(HOSTED[name]):
            raise OSError("the host cannot be reached")
        with urllib.request.urlopen(HOSTED[name], timeout=60) as response:
            text = response.read().decode("utf-8")
        json.loads(text)
    except (OSError, ValueError) as error:  # no network, an error page, half a file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unavailable(
            f"ruler: cannot get {name} from {HOSTED[name]} ({reason}); put it into --data-dir"
        ) from error
    with cache_writes():
        write_whole(path, text)
    return path


def _read(name: str, env: TaskEnvironment) -> Any:
    path = _locate(name, env)
    status = path.stat()
    return _parsed(name, path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _parsed(name: str, path: Path, size: int, changed: int) -> Any:
    """The file as its parser makes it, read once for all tasks; `size` and `changed` notice another file."""
    try:
        return _PARSERS[name](json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise UsageError(f"ruler: {path} is not RULER's {name} ({type(error).__name__}: {error})") from error


def _essay_words(content: Any) -> tuple[str, ...]:
    words = tuple(re.sub(r"\s+", " ", content["text"]).strip().split(" "))
    if words == ("",):
        raise ValueError("no text")
    return words


def _english_words(content: Any) -> tuple[str, ...]:
    return tuple(str(word) for word in content.values())


def _squad(content: Any) -> Questions:
    articles = content["data"]
    documents = sorted({p["context"] for article in articles for p in article["paragraphs"]})
    place = {document: index for index, document in enumerate(documents)}
    questions = []
    for article in articles:
        all_places = [place[p["context"]] for p in article["paragraphs"]]
        for paragraph in article["paragraphs"]:
            own = place[paragraph["context"]]
            related = tuple(i for i in all_places if i != own)
            for asked in paragraph["qas"]:
                if not asked["is_impossible"]:
                    answers = tuple(a["text"] for a in asked["answers"])
                    questions.append(Question(asked["question"], answers, (own,), related))
    return _checked(questions, documents)


def _hotpotqa(content: Any) -> Questions:
    def text(document: Any) -> str:
        title, sentences = document
        return f"{title}\n{''.join(sentences)}"

    documents = sorted({text(document) for row in content for document in row["context"]})
    place = {document: index for index, document in enumerate(documents)}
    questions = [
        Question(row["question"], (row["answer"],), tuple(place[text(d)] for d in row["context"]), ())
        for row in content
    ]
    return _checked(questions, documents)


def _checked(questions: list[Question], documents: list[str]) -> Questions:
    if not questions:
        raise ValueError("no questions")
    if blank := [q.text for q in questions if not q.answers or not all(a.strip() for a in q.answers)]:
        raise ValueError(f"an answer to {blank[0]!r} is empty, and would stand in every text")
    return Questions(tuple(questions), tuple(documents))


_PARSERS: dict[str, Callable[[Any], Any]] = {
    ESSAYS: _essay_words,
    ENGLISH_WORDS: _english_words,
    SQUAD: _squad,
    HOTPOTQA: _hotpotqa,
}
