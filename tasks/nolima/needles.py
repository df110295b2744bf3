"""NoLiMa's needle sets, read from the user's files: experiments, their questions, and the names in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import Unavailable, UsageError

from .. import _files

NAME = "{CHAR}"
OWN_TEMPLATE = (
    "Here is a long text.\n\n{haystack}\n\nAnswer the question about the text in as few words as you can.\n\n"
    "Question: {question}"
)
"""Words of our own, for whoever has no copy of the official template."""


@dataclass(frozen=True)
class Asked:
    """One needle and its question.

    Attributes
    ----------
    test
        Experiment, test and kind of question; the files of the official code are called so.
    needle
        With the place `NAME` for a name.
    names
        The names it may have.
    seed
        The number its experiment begins with.
    answers
        Accepted answers, where they are not the name.
    template
        The experiment's own prompt, if it has one.
    """

    test: str
    needle: str
    question: str
    names: tuple[str, ...]
    seed: int
    answers: tuple[str, ...] | None
    template: str | None

    @property
    def direct(self) -> bool:
        """Whether the needle says what is asked, in the same words: such tests are not in the headline."""
        return "direct" in self.test


def read(path: Path) -> list[Asked]:
    """Every question of a needle set: experiment by experiment, kind by kind, test by test.

    Raises
    ------
    UsageError
        If the file is none, or an experiment is broken (named by its line).
    """
    if not path.is_file():
        raise Unavailable(f"nolima: cannot read {path}: there is no such file")
    asked: list[Asked] = []
    seen: dict[str, str] = {}
    for one, place in _files.read(path):
        for each in _experiment(one, place):
            _files.once(each.test, place, seen)
            asked.append(each)
    if not asked:
        raise UsageError(f"{path}: no experiments in it")
    return asked


def _experiment(one: Any, place: str) -> Iterator[Asked]:
    try:
        key, needle, questions, tests = str(one["id"]), one["needle"], one["questions"], one["tests"]
        names = tuple(one["character_set"])
        template = one.get("task_template")
        kinds = [(kind, text) for kind, text in questions.items()]
        cases = [(name, case["input_args"], case.get("gold_answers")) for name, case in tests.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{place}: id, needle, questions, character_set or tests are missing or wrong ({error})"
        ) from None
    if one.get("distractors"):
        raise UsageError(f"{place}: distractors are not offered; take a set without them")
    if not re.match(r"\d{4}", key):
        raise UsageError(f"{place}: its id {key!r} must begin with four digits, the seed of its names")
    if NAME not in needle or not names:
        raise UsageError(f"{place}: the needle needs the place {NAME} and names to put there")
    for kind, text in kinds:
        for name, arguments, gold in cases:
            filled = needle
            for number, argument in enumerate(arguments, start=1):
                filled = filled.replace(f"{{{number}}}", argument)
            if missing := re.search(r"\{\d+\}", filled):
                raise UsageError(f"{place}: test {name!r} gives nothing for {missing[0]} of the needle")
            answers = None if gold is None else (gold,) if isinstance(gold, str) else tuple(gold)
            if not all(
                isinstance(each, str) and each.strip() for each in (names if answers is None else answers)
            ):
                raise UsageError(f"{place}: an accepted answer of test {name!r} is empty")
            yield Asked(
                f"{key}_{name}_{kind}",
                filled,
                _question(text, arguments),
                names,
                int(key[:4]),
                answers,
                template,
            )


def _question(text: str, arguments: Sequence[str]) -> str:
    """A question with its place filled. Each filling begins anew officially, so that only the last place is filled."""
    asked = text
    for number, argument in enumerate(arguments, start=1):
        if f"{{{number}}}" in text:
            asked = text.replace(f"{{{number}}}", argument)
    return asked


def drawn(asked: Asked, book: int, depths: int) -> list[str]:
    """The name at each depth: the same for all questions of an experiment in a book."""
    rng = np.random.RandomState(42 + asked.seed + book)  # what np.random.seed starts
    return [str(rng.choice(list(asked.names))) for _ in range(depths)]


def template(folder: Path) -> str:
    """The official prompt from the user's copy: ``template.txt``, or the one in ``run_tests.py``, which is not run.

    Raises
    ------
    Unavailable
        If there is none, or not exactly one.
    """
    otherwise = "copy evaluation/run_tests.py of adobe-research/NoLiMa there, or set nolima.template=own"
    if (path := folder / "template.txt").is_file():
        return checked(path.read_text(encoding="utf-8").rstrip("\n"), str(path))
    path = next(
        (p for p in (folder / "run_tests.py", folder / "evaluation" / "run_tests.py") if p.is_file()), None
    )  # type: ignore[assignment]
    if path is None:
        raise Unavailable(f"nolima: no template.txt or run_tests.py in --data-dir {folder}; {otherwise}")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path}: not Python ({error})") from None
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(places(node.value)) == 2
    }
    whole = [text for text in found if "{question}" in text]
    if len(whole) != 1:
        raise Unavailable(
            f"nolima: {path} has {len(whole)} prompts with a place for text and question; {otherwise}"
        )
    return whole[0]


def places(text: str) -> set[str]:
    """The names of a template's places."""
    return set(re.findall(r"\{(\w+)\}", text))


def checked(text: str, name: str) -> str:
    """A template with a place for the question and one for the text; raises UsageError for another one."""
    if len(places(text)) != 2 or "question" not in places(text):
        raise UsageError(f"{name}: a template has the place {{question}} and one for the text")
    return text


def filled(text: str, given: Mapping[str, str]) -> str:
    """A template's part with its places filled, once each."""
    return re.sub(r"\{(\w+)\}", lambda match: given.get(match[1], match[0]), text)
